"""Profiles, the lane of slow tests, and a guard: no test may leave a mode of the engine switched.

MINIGRAD_PROFILE=dev      a few examples of each property, the same ones every time (the default)
MINIGRAD_PROFILE=ci       more of them (the default where CI=true)
MINIGRAD_PROFILE=nightly  many, new ones every time

What the tests of CUDA need is looked for once: greenlet (cuda_sim), numba-cuda and nvdisasm (offline), a GPU (gpu).
``pytest -m gpu`` runs on the GPU what otherwise runs on the emulated one.
"""

import os

import pytest
from hypothesis import settings

from minigrad.engine import tape
from minigrad.ops.fuse import Fused

settings.register_profile("dev", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("ci", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=400, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("MINIGRAD_PROFILE") or ("ci" if os.environ.get("CI") == "true" else "dev"))


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_configure(config):
    """``pytest -m gpu`` runs the tests of the CUDA backend on a GPU in place of the emulated device."""
    if "gpu" in config.option.markexpr:
        os.environ["MINIGRAD_TEST_DEVICE"] = "cuda"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if "cuda_sim" in item.keywords and os.environ.get("MINIGRAD_TEST_DEVICE") == "cuda":
            item.add_marker(pytest.mark.gpu)
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(autouse=True)
def modes_stay_as_they_were():
    """A test that leaks no_grad, anomaly mode or unfused rules would weaken every test behind it."""
    yield
    found = tape._MODE.get(), Fused.on
    tape._MODE.set(tape.Mode())
    Fused.on = True
    assert found == (tape.Mode(), True), f"the test left {found} behind"
