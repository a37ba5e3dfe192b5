"""Profiles, the lane of slow tests, and a guard: no test may leave a mode of the engine switched.

MINIGRAD_PROFILE=dev      a few examples of each property, the same ones every time (the default)
MINIGRAD_PROFILE=ci       more of them (the default where CI=true)
MINIGRAD_PROFILE=nightly  many, new ones every time

What the tests of CUDA need is looked for once: greenlet (cuda_sim), numba-cuda and nvdisasm (offline), a GPU (gpu).
``pytest -m gpu`` runs on the GPU what otherwise runs on the emulated one.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from minigrad.engine import tape
from minigrad.kernels.cuda import present
from minigrad.ops.fuse import Fused

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for tests.benchmarks
settings.register_profile("dev", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("ci", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=400, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("MINIGRAD_PROFILE") or ("ci" if os.environ.get("CI") == "true" else "dev"))


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_configure(config):
    """``pytest -m gpu``: what runs on the emulated GPU runs on the one that is there, which takes its name."""
    if "gpu" in config.option.markexpr and not _gpu():
        from minigrad.kernels.cuda import driver
        from minigrad.testing import simt

        driver.Gpu.name = "cuda-sim"
        found = driver.backend().device
        simt.device = lambda: found


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    if "gpu" in config.option.markexpr:
        for item in items:
            if "cuda_sim" in item.keywords and not item.path.name.startswith(EMULATOR):
                item.add_marker("gpu")
    missing = {mark: why() for mark, why in NEEDS.items() if any(mark in item.keywords for item in items)}
    if not config.getoption("--slow"):
        missing["slow"] = "slow: run with --slow"
    for item in items:
        for mark, why in missing.items():
            if why and mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=why))


def _compiler():
    if missing := present.packages():
        return f"{missing.got}: pip install 'minigrad[test-cuda]'"
    from cuda.pathfinder import find_nvidia_binary_utility

    return "" if find_nvidia_binary_utility("nvdisasm") else "no nvdisasm: pip install 'minigrad[test-cuda]'"


def _gpu():
    found = present.card()
    return f"{found.got}; {found.do}" if isinstance(found, present.Problem) else ""


EMULATOR = ("test_simt", "test_cuda_driver", "test_cuda_benchmarks", "test_device_option", "test_cuda_mutants")
# files that need the emulated GPU as it is
NEEDS = {
    "cuda_sim": lambda: "" if find_spec("greenlet") else "no greenlet: pip install 'minigrad[simt]'",
    "offline": _compiler,
    "gpu": _gpu,
}


@pytest.fixture(autouse=True)
def modes_stay_as_they_were():
    """A test that leaks no_grad, anomaly mode or unfused rules would weaken every test behind it."""
    yield
    found = tape._MODE.get(), Fused.on
    tape._MODE.set(tape.Mode())
    Fused.on = True
    assert found == (tape.Mode(), True), f"the test left {found} behind"
