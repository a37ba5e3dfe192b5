"""Every CUDA kernel compiled without a GPU, by the path that a GPU's kernels take; assertions on its machine code.

float32 for sm_90a, and a third of the kernels, another one each time, for sm_75, for sm_80 and in float64; all of all
with MINIGRAD_PROFILE=nightly, which also demands that the table in docs/ has every kernel as it is. (Otherwise: that
what it has is right.)
"""

import os
import re

import cuda_code
import numpy as np
import pytest
from cuda_code import (
    ARCHITECTURES,
    TABLE,
    Look,
    cells,
    complaints,
    kernels,
    look,
    name,
    opcodes,
    rows,
    runs_on,
    versions,
)  # fmt: skip

from minigrad.errors import DeviceError
from minigrad.kernels.cuda.kernel import KERNELS, Kernel
from minigrad.kernels.cuda.language import cuda, load4, multiply_tf32, store4

pytestmark = pytest.mark.offline
NIGHTLY = os.environ.get("MINIGRAD_PROFILE") == "nightly"
# Which of the kernels are compiled, by dtype and architecture.
LANES = {(dtype, a): slice(None) for dtype in ("float32", "float64") for a in ARCHITECTURES}
if not NIGHTLY:
    thirds = [("float32", (7, 5)), ("float32", (8, 0)), ("float64", (9, 0, "a"))]
    LANES = {("float32", (9, 0, "a")): slice(None)} | {at: slice(i, None, 3) for i, at in enumerate(thirds)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_operation_and_layer_launches_its_kernels(dtype):
    found, failed = kernels(dtype)
    assert not failed
    assert len(found) > 50


@pytest.mark.parametrize(("dtype", "capability"), LANES, ids=str)
def test_machine_code(dtype, capability):
    cases = [(kernel, own) for kernel, own in kernels(dtype)[0] if runs_on(kernel, own, capability)]
    cases = cases[LANES[dtype, capability]]
    found = list(look(cases, capability))
    wrong = [w for (kernel, _), x in zip(cases, found) for w in complaints(kernel, x)]
    assert not wrong, "\n".join(wrong)
    text = TABLE.read_text()
    if versions() in text:
        table = rows(text)
        old = [name(x) for x in found if not right(table.get(name(x)), cells(x))]
        assert not old, "\n".join(["docs/cuda_kernels.md (run: python tests/cuda_code.py) is wrong in", *old])


def right(row, found):
    """Whether a row of the table says this; a row may be missing, but not from the nightly lane."""
    return not NIGHTLY if row is None else all(row[column] == text for column, text in found.items())


# ------------------------------------------------------------------------------------------------ the assertions bite


def sound(n, x, out):
    i = cuda.grid(1) * 4
    while i + 3 < n:
        a, b, c, d = load4(x, i)
        store4(out, i, (a + 1.0, b + 1.0, c + 1.0, d + 1.0))
        i += cuda.gridsize(1) * 4


def converts(n, x, out):
    i = cuda.grid(1)
    if i < n:
        out[i] = x[i] * (i + 1)  # an integer times a float32 is a float64 for Numba


def keeps_a_table(n, x, out):
    i = cuda.grid(1)
    table = cuda.local.array(64, T)  # noqa: F821
    for k in range(64):
        table[k] = x[i + k]
    for k in range(n):  # at places that are not known: the table cannot be in registers
        table[(7 * k + n) % 64] = table[(5 * k) % 64] + 1.0
    out[i] = table[n % 64]


def holds_much(n, x, out):
    i = cuda.grid(1) * 64
    held = cuda.local.array(64, T)  # noqa: F821
    for k in range(64):
        held[k] = x[i + k]
    cuda.syncthreads()
    for k in range(64):
        out[i + k] = held[63 - k] * held[k]


@pytest.fixture
def compiled(monkeypatch):
    def found(function, **options):
        kernel = Kernel(function, "i8 T* T*", name=function.__name__, **options)
        cuda_code.KERNELS.remove(kernel)
        return kernel, next(look([(kernel, np.float32)], (9, 0, "a")))

    return found


def test_a_sound_kernel_has_its_vector_accesses(compiled):
    kernel, x = compiled(sound)
    assert complaints(kernel, x) == [] and x.count("LDG.E.128") == 1 and x.count("STG.E.128") == 1
    kernel.promises = ("LDG.E.128", "HMMA")
    assert complaints(kernel, x) == ["sound float32: no promised ['HMMA']"]


def test_a_hidden_float64_is_found(compiled):
    (complaint,) = complaints(*compiled(converts))
    assert "float64 ['DMUL'" in complaint


def test_an_array_in_local_memory_is_found(compiled):
    kernel, x = compiled(keeps_a_table)
    assert x.stack == 256 and x.count("STL")
    assert complaints(kernel, x) == ["keeps_a_table float32: stack 256"]


def test_spills_are_found(compiled):
    kernel, x = compiled(holds_much, threads=256, max_registers=32)
    assert x.registers == 32 and x.spills > 0
    assert f"holds_much float32: spills {x.spills}" in complaints(kernel, x)
    worse = Look(**{**vars(x), "spills": 0, "stack": 0, "registers": 300})
    assert complaints(kernel, worse) == ["holds_much float32: registers 300"]


def grows(n, x, out):
    room = cuda.shared.array(n, T)  # noqa: F821  (only a constant can be a size)
    room[0] = x[0]
    out[0] = room[0]


def test_a_kernel_that_does_not_compile_is_found(compiled):
    (complaint,) = complaints(*compiled(grows))
    assert complaint.startswith("grows float32: TypingError")


def test_two_builds_are_the_same_and_need_no_device():
    kernel = Kernel(None, "i8 T* T*", name="twice", text="@kernel\ndef run(n, x, out):\n    out[0] = x[0] + x[0]\n")
    file = kernel.file(np.dtype("float32"))
    from minigrad.kernels.cuda.compile import build, lower

    ptx = lower(file.text, file.stem, file.takes, (8, 0), 32, output="ptx")
    assert re.findall(r"\.param \.(\w+) ", ptx.split(".entry")[1].split(")")[0]) == ["u64"] * 3  # nothing but those
    a, b = (build(file.text, file.stem, file.takes, (8, 0), 32) for _ in range(2))
    assert a == b and a.entry == file.stem and a.entry.encode() in a.cubin
    assert "FADD" in next(opcodes([a.cubin], (8, 0)))


def test_a_library_that_is_missing_is_said(monkeypatch):
    from minigrad.kernels.cuda import compile, present

    def fails(*args):
        raise RuntimeError("libnvrtc.so.13 not found")

    monkeypatch.setattr(compile, "lower", fails)
    with pytest.raises(RuntimeError, match="^libnvrtc"):
        compile.build("", "", (), (9, 0))
    monkeypatch.setattr(
        present, "packages", lambda: present.Problem("no library nvrtc", "all of them", "pip install it")
    )
    with pytest.raises(DeviceError, match="got no library nvrtc, expected all of them; pip install it"):
        compile.build("", "", (), (9, 0))


def multiplies(x, out, n):
    i = cuda.threadIdx.x
    a, b, c, d = multiply_tf32(1, 2, 3, 4, 5, 6, x[i], x[i], x[i], x[i])
    if i < n:
        out[i] = a + b + c + d


def test_what_a_warp_does_as_one_is_not_taken_into_a_branch():
    from minigrad.kernels.cuda.compile import lower

    kernel = Kernel(multiplies, "T* T* i8")
    KERNELS.remove(kernel)
    file = kernel.file(np.dtype("float32"))
    ptx = lower(file.text, file.stem, file.takes, (9, 0), 32, output="ptx")
    body = ptx[ptx.index(".entry") :]
    assert 0 < body.index("mma.sync") < body.index("bra")
