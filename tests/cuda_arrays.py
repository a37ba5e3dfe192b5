"""NumPy arrays put on the device with the strides that they have, for the tests of the CUDA backend."""

import numpy as np
from on_device import DEVICE

from minigrad.kernels import named

K = named(DEVICE)


def put(x):
    """The memory that x walks over, and x as a view of it."""
    low = np.flip(x, [a for a, s in enumerate(x.strides) if s < 0])
    span = sum((n - 1) * s for n, s in zip(low.shape, low.strides)) // x.itemsize + 1 if x.size else 0
    flat = np.lib.stride_tricks.as_strided(low, (span,), (x.itemsize,))
    first = sum((1 - n) * s for n, s in zip(x.shape, x.strides) if s < 0) // x.itemsize if x.size else 0
    return K.from_numpy(flat.copy()).view(x.shape, tuple(s // x.itemsize for s in x.strides), first)


def get(x):
    return K.to_numpy(x)


def normal(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def launched(monkeypatch):
    """A list that the names of the kernels will be in that are launched from now on."""
    names, launch = [], K.device.launch

    def note(kernel, *args, **kwargs):
        names.append(kernel.name)
        launch(kernel, *args, **kwargs)

    monkeypatch.setattr(K.device, "launch", note)
    return names
