"""Graphs of launches on the emulated device: recorded once, run often."""

import numpy as np
import pytest

import minigrad as mg

pytest.importorskip("greenlet", reason="the emulated device needs greenlet: pip install 'minigrad[simt]'")

from test_cuda_driver import fake  # noqa: F401

from minigrad.errors import DeviceError
from minigrad.kernels.cuda import driver
from minigrad.kernels.cuda.graphs import Graphs
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


def test_what_comes_again_at_the_same_place_is_recorded_once_with_memory_of_its_own(fake):  # noqa: F811
    device = driver.backend().device
    x, launched = device.put(np.zeros(3, FLOAT)), []
    graphs = Graphs(device, most=2)

    def launch():
        own = device.empty((3,), FLOAT)
        device.launch(ADD_ONE, FLOAT, 1, 3, own)
        device.launch(ADD_ONE, FLOAT, 1, 3, x)
        launched.append(own.address)

    for _ in range(5):
        graphs.run("twice", [x], launch)
    assert len(launched) == 2 and fake.named("graph.launch") == [("graph.launch", 2)] * 4
    assert np.array_equal(device.download(x), [5, 5, 5])
    others = [device.empty((3,), FLOAT) for _ in range(4)]
    assert launched[1] not in [other.address for other in others]
    graphs.run("twice", [others[0]], launch)
    graphs.run("thrice", [x], launch)
    assert len(launched) == 4 and len(graphs.known) == 2
    with device.capture():
        graphs.run("twice", [others[0]], launch)
    assert len(launched) == 5 and len(fake.named("graph.launch")) == 4
