"""The disk cache of kernels, in processes of their own: nothing stale, nothing twice, and no error without it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

COUNT = """
import json, os, sys
import numba.core.event as event
compiled = event.RecordingListener()
event.register("numba:compile", compiled)
"""
WORK = """
import numpy as np
import minigrad as mg
x = mg.tensor([[0.5, -1.0, 2.0]], requires_grad=True)
y = (mg.tanh(x) * x).sum()
y.backward()
print(json.dumps({"y": y.item(), "g": x.grad.tolist(), "compiled": len(compiled.buffer)}))
"""


ROOT = hasattr(os, "getuid") and os.getuid() == 0
POWERLESS = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if ROOT else []  # root writes everywhere


def start(code, cache=None, prefix=(), **environment):
    """A process that runs ``code``; settings of minigrad and of the cache only as given."""
    unset = ("HOME", "XDG_CACHE_HOME", "MINIGRAD_CACHE_DIR", "NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT")
    clean = {k: v for k, v in os.environ.items() if k not in unset} | environment
    if cache is not None:
        clean["MINIGRAD_CACHE_DIR"] = str(cache)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": clean}
    return subprocess.Popen([*prefix, sys.executable, "-W", "error", "-c", COUNT + code], **options)


def result(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert err == ""
    return json.loads(out.splitlines()[-1])


def files(folder):
    return {
        p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache in which one process did the work, and what that printed."""
    cache = tmp_path_factory.mktemp("filled") / "cache"
    return cache, result(start(WORK, cache))


def test_import_compiles_and_writes_nothing_and_loads_no_more_than_needed(tmp_path):
    heavy = ["scipy", "matplotlib", "click", "tqdm", "minigrad.models", "minigrad.cli", "torch", "pandas", "hypothesis"]
    heavy += ["numba.cuda", "cuda.core", "greenlet", "minigrad.kernels.cuda", "minigrad.compiler.cuda"]
    code = f"""
import minigrad
found = [name for name in {heavy} if name in sys.modules]
print(json.dumps({{"compiled": len(compiled.buffer), "imported": found}}))
"""
    assert result(start(code, tmp_path / "cache", HOME=str(tmp_path))) == {"compiled": 0, "imported": []}
    assert list(tmp_path.iterdir()) == []


def test_the_first_process_compiles_and_the_second_does_not(filled):
    cache, first = filled
    assert first["compiled"] > 0
    before = files(cache)
    second = result(start(WORK, cache))
    assert second == first | {"compiled": 0}
    assert files(cache) == before


def test_two_processes_may_fill_one_cache_at_the_same_time(filled, tmp_path):
    _, expected = filled
    both = [start(WORK, tmp_path / "cache") for _ in range(2)]
    for process in both:
        found = result(process)
        assert (found["y"], found["g"]) == (expected["y"], expected["g"])


@pytest.mark.parametrize("how", ["empty setting", "no home", "a file in the way"])
def test_everything_works_where_no_cache_can_be_written(how, filled, tmp_path):
    _, expected = filled
    (tmp_path / "file").write_text("")
    settings = {
        "empty setting": {"cache": "", "HOME": str(tmp_path)},
        "no home": {},
        "a file in the way": {"cache": tmp_path / "file" / "cache", "HOME": str(tmp_path)},
    }
    found = result(start(WORK, **settings[how]))
    assert (found["y"], found["g"]) == (expected["y"], expected["g"])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(ROOT and not shutil.which("setpriv"), reason="root writes everywhere")
def test_a_filled_cache_may_be_read_only(filled, tmp_path):
    cache, expected = filled
    folders = [cache, *[p for p in cache.rglob("*") if p.is_dir()]]
    for folder in folders:
        folder.chmod(0o500)
    try:
        found = result(start(WORK, cache, POWERLESS, HOME=str(tmp_path)))
    finally:
        for folder in folders:
            folder.chmod(0o700)
    assert (found["y"], found["g"]) == (expected["y"], expected["g"])


def test_a_damaged_kernel_file_is_written_again(filled):
    cache, expected = filled
    kernels = sorted(cache.glob("*.py"))
    for path in kernels:
        path.write_text(path.read_text()[:100])
    found = result(start(WORK, cache))
    assert (found["y"], found["g"]) == (expected["y"], expected["g"])
    assert all(len(path.read_text()) > 100 for path in kernels)


OWN = """
import numpy as np
import minigrad as mg
from minigrad.ops.record import unary
from mine import wave
op = unary("wave", "2 x", wave, lambda g, y, x: op(g), np.sin)
x = mg.tensor([1.0, 2.0], requires_grad=True)
op(x).sum().backward()
print(json.dumps([op(x).tolist(), x.grad.tolist(), len(compiled.buffer)]))
"""


def test_an_edited_scalar_function_is_another_kernel_and_never_a_stale_one(tmp_path):
    cache, mine, helper = tmp_path / "cache", tmp_path / "mine.py", tmp_path / "helper.py"
    mine.write_text("from helper import half\ndef wave(x):\n    return 4.0 * half(x)\n")
    helper.write_text("def half(x):\n    return x * 0.5\n")
    here = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}

    def kernels():
        return {p.name for p in cache.glob("wave*.py")}

    assert result(start(OWN, cache, **here))[:2] == [[2, 4], [2, 2]]
    first = kernels()
    mine.write_text("from helper import half\ndef wave(x):\n    return 6.0 * half(x)\n")
    assert result(start(OWN, cache, **here))[:2] == [[3, 6], [3, 3]]
    second = kernels()
    helper.write_text("def half(x):\n    return x * 0.25\n")  # a function that it calls, in another file
    assert result(start(OWN, cache, **here))[:2] == [[1.5, 3], [1.5, 1.5]]
    assert first < second < kernels()
    helper.write_text("def half(x):\n    return x * 0.5\n")
    assert result(start(OWN, cache, **here)) == [[3, 6], [3, 3], 0]  # as it was before: nothing to compile


def test_a_kernel_file_is_readable_python_with_the_scalar_in_it(filled):
    cache, _ = filled
    (path,) = cache.glob("tanh_v_float32_*.py")
    text = path.read_text()
    compile(text, str(path), "exec")
    assert "def tanh(x):" in text and "def expm1(x):" in text and "def run(" in text


@pytest.mark.parametrize(
    ("told", "expected"),
    [({"OMP_NUM_THREADS": "1"}, 1), ({"OMP_NUM_THREADS": "3", "MINIGRAD_THREADS": "2"}, 2),
     ({"OMP_NUM_THREADS": "4,2"}, 0), ({"OMP_NUM_THREADS": "all"}, 0), ({}, 0)],
)  # fmt: skip
def test_threads_are_what_other_programs_are_told(told, expected):
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MINIGRAD_THREADS")} | told
    code = "from minigrad.config import config; print(config.threads)"
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert found.stdout.strip() == str(expected), found.stderr
