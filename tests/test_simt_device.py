"""The emulated device: what it counts, what it refuses, and that it needs no more than greenlet."""

import gc
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("greenlet", reason="the emulated device needs greenlet")

import minigrad as mg
from minigrad.errors import DeviceError
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda, group_barrier
from minigrad.testing import simt

pytestmark = pytest.mark.cuda_sim
T = F = np.float32
F32 = np.dtype(F)
DEVICE = simt.device()


def copy_with_strides(x, step, out, n):
    i = cuda.grid(1)
    if i < n:
        out[i] = x[i * step]


def reads_fresh(out, x, n):
    out[cuda.grid(1)] = x[cuda.grid(1)]


def races(x, n):
    x[0] = T(cuda.threadIdx.x)


def truth(x, out, n):
    out[cuda.threadIdx.x] = 1 - x[cuda.threadIdx.x]


def waits(counters, n):
    group_barrier(counters, 0, n, n)


COPY = Kernel(copy_with_strides, "T* i8 T* i8")
FRESH = Kernel(reads_fresh, "T* T* i8")
RACES = Kernel(races, "T* i8")
TRUTH = Kernel(truth, "u1* u1* i8", threads=3)
WAITS = Kernel(waits, "u4* i8")


@pytest.fixture
def watched():
    DEVICE.races = True
    yield
    DEVICE.races = False


def test_what_is_freed_is_counted_and_poisoned():
    gc.collect()
    bytes_, pieces = DEVICE.in_use, DEVICE.allocations
    x = DEVICE.put(np.ones(8, F))
    view = x.cut((slice(2, 4),))
    assert (DEVICE.in_use, DEVICE.allocations) == (bytes_ + 32, pieces + 1)
    stale = x.memory.bytes.view(F)
    del x
    assert DEVICE.allocations == pieces + 1 and stale[2] == 1
    del view
    assert (DEVICE.in_use, DEVICE.allocations) == (bytes_, pieces)
    assert np.isnan(stale).all()
    assert np.isnan(DEVICE.download(DEVICE.empty((3,), F))).all()


def test_a_computation_leaves_nothing_behind():
    def step():
        x = mg.tensor(np.ones((2, 3), F), requires_grad=True, device="cuda-sim")
        mg.tanh(x).backward(mg.tensor(np.ones((2, 3), F), device="cuda-sim"))

    step()
    gc.collect()
    before = DEVICE.in_use, DEVICE.allocations
    step()
    gc.collect()
    assert (DEVICE.in_use, DEVICE.allocations) == before


def test_views_that_are_walked_backwards():
    x, out = DEVICE.put(np.arange(6, dtype=F)), DEVICE.empty((6,), F)
    back = x.flip((0,))
    DEVICE.launch(COPY, F32, 1, back, back.strides[0], out, 6)
    assert DEVICE.download(out).tolist() == [5, 4, 3, 2, 1, 0]
    with pytest.raises(simt.BoundsError, match=r"x\[-6\] is outside"):
        DEVICE.launch(COPY, F32, 1, back, -1, out, 7)
    with pytest.raises(simt.BoundsError, match="leaves its memory"):
        DEVICE.launch(COPY, F32, 1, x.view((4,), (2,)), 2, out, 4)


def test_truth_values_are_bytes_and_types_are_checked():
    x, out = DEVICE.put(np.array([True, False, True])), DEVICE.empty((3,), bool)
    DEVICE.launch(TRUTH, F32, 1, x, out, 3)
    assert DEVICE.download(out).tolist() == [False, True, False]
    with pytest.raises(TypeError, match=r"takes f4\*, got f8\*"):
        DEVICE.launch(COPY, F32, 1, DEVICE.put(np.ones(3)), 1, out, 3)
    with pytest.raises(TypeError, match="takes 2 arguments, 1 given"):
        DEVICE.launch(RACES, F32, 1, x)


def test_races_and_reads_of_fresh_memory(watched):
    n = DEVICE.threads
    fresh, out = DEVICE.empty((2 * n,), F), DEVICE.empty((2 * n,), F)
    with pytest.raises(simt.UnwrittenError, match=r"x\[0\] is read, and nobody wrote it"):
        DEVICE.launch(FRESH, F32, 2, out, fresh, n)
    DEVICE.launch(FRESH, F32, 2, out, DEVICE.put(np.ones(2 * n, F)), n)
    DEVICE.launch(FRESH, F32, 2, fresh, out, n)  # written by the launch before
    with pytest.raises(simt.RaceError, match=r"x\[0\]"):
        DEVICE.launch(RACES, F32, 1, out, n)


def test_blocks_wait_for_each_other_in_cooperative_launches_only():
    counters = DEVICE.put(np.zeros(1, np.uint32))
    DEVICE.launch(WAITS, F32, 3, counters, 3, cooperative=True)
    with pytest.raises(simt.DivergenceError, match="not cooperative"):
        DEVICE.launch(WAITS, F32, 3, counters, 3)


def test_shared_memory_has_its_limit():
    with pytest.raises(simt.BoundsError, match="bytes of shared memory"):
        DEVICE.launch(RACES, F32, 1, DEVICE.empty((1,), F), 1, shared=DEVICE.shared_limit + 1)


def test_several_threads_of_the_host_launch_at_once():
    found = {}

    def work(k):
        x = mg.tensor(np.full(100, k, F), device="cuda-sim")
        for _ in range(5):
            x = x + 1
        found[k] = x.numpy()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all((found[k] == k + 5).all() for k in range(4))


def test_without_greenlet_the_error_says_what_to_install():
    code = """
import sys
sys.modules["greenlet"] = sys.modules["numba.cuda"] = None
import minigrad
from minigrad.errors import DeviceError
from minigrad.testing import simt
for call in (simt.device, lambda: simt.run(lambda: None, 1, 1)):
    try:
        call()
    except DeviceError as error:
        assert "minigrad[simt]" in str(error), error
    else:
        raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_emulator_needs_no_numba_cuda():
    code = """
import sys
sys.modules["numba.cuda"] = sys.modules["numba_cuda"] = None
import minigrad as mg
from minigrad.testing import simt
simt.device()
assert mg.tanh(mg.tensor([0.0], device="cuda-sim")).numpy() == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_devices_are_not_mixed():
    with pytest.raises(DeviceError):
        mg.tensor([1.0]) + mg.tensor([1.0], device="cuda-sim")


def _train_lstm():
    layer = mg.nn.LSTM(4, 5, 2, dropout=0.5, bidirectional=True, generator=0).to("cuda-sim")
    adam = mg.optim.Adam(layer.parameters())
    y, _ = layer(mg.tensor(np.ones((3, 2, 4), np.float32), device="cuda-sim"), lengths=[3, 1])
    mg.square(y).sum().backward()
    mg.optim.clip_grad_norm_(layer.parameters(), 0.1)
    adam.step()


def _differentiate():
    mg.hessian(lambda x: (mg.softmax(x) * x).sum())(mg.tensor([1.0, 2.0], device="cuda-sim"))


def _never_walk_back():
    mg.nn.LSTM(4, 5).to("cuda-sim")(mg.tensor(np.ones((3, 2, 4), np.float32), device="cuda-sim"))


@pytest.mark.parametrize("work", [_train_lstm, _differentiate, _never_walk_back])
def test_no_reference_cycle_holds_memory_of_a_device(work):
    work()  # layouts are kept
    before = DEVICE.in_use, DEVICE.allocations
    gc.disable()
    try:
        work()
        assert (DEVICE.in_use, DEVICE.allocations) == before
    finally:
        gc.enable()
