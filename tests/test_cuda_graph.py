"""Graphs of launches on the emulated device: recorded once, run often."""

import numpy as np
import pytest

import minigrad as mg

pytest.importorskip("greenlet", reason="the emulated device needs greenlet: pip install 'minigrad[simt]'")

from minigrad.errors import DeviceError
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda
from minigrad.testing import simt

pytestmark = pytest.mark.cuda_sim


def add_one(n, x):
    i = cuda.grid(1)
    while i < n:
        x[i] = x[i] + 1.0
        i += cuda.gridsize(1)


ADD_ONE = Kernel(add_one, "i8 T*", dtypes=("float32",))
FLOAT = np.dtype("float32")


def test_a_graph_runs_its_launches_when_it_is_launched_and_not_before():
    device = simt.device()
    x = device.put(np.arange(5, dtype=FLOAT))
    with device.capture() as graph:
        for _ in range(3):
            device.launch(ADD_ONE, FLOAT, 1, 5, x)
        with pytest.raises(DeviceError, match="while it is recorded"):
            graph.launch()
    assert np.array_equal(device.download(x), np.arange(5))
    graph.launch()
    graph.launch()
    assert np.array_equal(device.download(x), np.arange(5) + 6)
    device.launch(ADD_ONE, FLOAT, 1, 5, x)
    assert np.array_equal(device.download(x), np.arange(5) + 7)


def test_a_capture_that_fails_leaves_the_device_as_it_was_and_none_holds_another():
    device = simt.device()
    with pytest.raises(DeviceError, match="a capture inside of a capture"), device.capture(), device.capture():
        pass
    with device.capture() as graph:
        pass
    graph.launch()
    assert mg.tanh(mg.tensor([0.0], device="cuda-sim")).numpy() == 0
