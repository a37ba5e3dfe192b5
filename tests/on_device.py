"""The device that the tests of the CUDA backend run on: the emulated one, or with ``pytest -m gpu`` a GPU.

``on_device(f)`` is a function of tensors that runs there: its operands go there, in the layout that they have, and its
results come back. So the suites that compare a fast path with its definition compare a device with the CPU.
"""

import functools

import numpy as np
import pytest

from minigrad.engine import Operation, Tensor, apply
from minigrad.engine.tree import tree_map
from minigrad.kernels import BACKENDS, named
from minigrad.ops.methods import to

pytest.importorskip("greenlet", reason="the emulated device needs greenlet: pip install 'minigrad[simt]'")
from minigrad.testing import simt

simt.device()
DEVICE = "cuda-sim"  # with ``pytest -m gpu`` the name of the GPU (conftest.py)


def laid_out(x):
    """The array on the device, its axes walked in the order, direction and repetition that they have in ``x``."""
    backend = named(DEVICE)
    still = tuple(a for a, s in enumerate(x.strides) if s == 0 and x.shape[a] > 1)
    back = tuple(a for a, s in enumerate(x.strides) if s < 0)
    order = tuple(np.argsort([-abs(s) for s in x.strides], kind="stable").tolist())
    values = x[tuple(slice(0, 1) if a in still else slice(None) for a in range(x.ndim))] if still else x
    values = np.flip(values, back) if back else values
    found = backend.from_numpy(np.ascontiguousarray(values.transpose(order)))
    found = backend.transpose(found, tuple(np.argsort(order).tolist()))
    found = backend.flip(found, back) if back else found
    return backend.broadcast_to(found, x.shape) if still else found


_TO = Operation("to", lambda k, x: laid_out(x), (lambda g, y, x: to(g, "cpu"),))


def move(x):
    return apply(_TO, (x,)) if isinstance(x, Tensor) and BACKENDS[type(x.data)].name == "cpu" else x


def on_device(f):
    @functools.wraps(f)
    def run(*args, **kwargs):
        args, kwargs = tree_map(move, (args, kwargs))
        return tree_map(lambda y: to(y, "cpu") if isinstance(y, Tensor) else y, f(*args, **kwargs))

    return run
