"""Floor 2: the backends, one for each kind of array.

``backend_of(array)`` finds what has the functions for such arrays: a module, or an object like one. A device adds
itself with ``register``; the GPU is looked for when it is first asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.errors import DeviceError, describe
from minigrad.kernels import abstract, cpu, sparse

BACKENDS: dict[type, Any] = {b.array_type: b for b in (cpu, abstract, sparse)}


def register(backend: Any) -> None:
    BACKENDS[backend.array_type] = backend


def devices() -> dict[str, Any]:
    """The backends that arrays are made on, by name."""
    return {b.name: b for b in BACKENDS.values() if b not in (abstract, sparse)}


def beside(x: Any, array: Any) -> Any:
    """A NumPy array for the backend of ``x``: as it is, or a copy on the device of x."""
    backend = BACKENDS[type(x)]
    return array if backend in (cpu, abstract, sparse) else backend.from_numpy(array)


def moved(array: Any, x: Any) -> Any:
    """An array of any device, as it is or copied to that of ``x``."""
    if type(array) is type(x):
        return array
    return BACKENDS[type(x)].from_numpy(BACKENDS[type(array)].to_numpy(array))


def bernoulli(x: Any, shape: tuple[int, ...], p: float, key: int, one: float = 1.0) -> Any:
    """For the backend and of the dtype of ``x``: ``one`` with probability p, else 0; a key gives the same on every
    device."""
    backend = BACKENDS[type(x)]
    return (cpu if backend in (abstract, sparse) else backend).bernoulli(shape, p, key, x.dtype, one)


def named(name: str | None) -> Any:
    """The backend of a device name; None is the CPU."""
    found = devices().get("cpu" if name is None else name)
    if found is None and name == "cuda":
        from minigrad.kernels.cuda.driver import backend

        found = backend()
    if found is not None:
        return found
    do = "import minigrad.testing.simt and call device() first" if name == "cuda-sim" else ""
    raise DeviceError(describe("device", repr(name), f"one of: {', '.join(sorted({*devices(), 'cuda'}))}", do))


def on_gpu(x: Any) -> bool:
    """Whether x is another package's array on a GPU."""
    if isinstance(x, (np.ndarray, list, float)):
        return False
    return hasattr(x, "__cuda_array_interface__") or getattr(x, "__dlpack_device__", lambda: (1, 0))()[0] == 2
