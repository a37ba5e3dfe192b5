"""Floor 2: the backends, one for each kind of device array.

``backend_of(array)`` finds the module whose functions take such arrays. A device adds itself with ``register``.
"""

from __future__ import annotations

from types import ModuleType

from minigrad.errors import DeviceError, describe
from minigrad.kernels import cpu

BACKENDS: dict[type, ModuleType] = {cpu.array_type: cpu}


def register(backend: ModuleType) -> None:
    BACKENDS[backend.array_type] = backend


def named(name: str | None) -> ModuleType:
    """The backend of a device name; None is the CPU."""
    for backend in BACKENDS.values():
        if backend.name == (name or "cpu"):
            return backend
    known = ", ".join(sorted(b.name for b in BACKENDS.values()))
    raise DeviceError(describe("device", repr(name), f"one of: {known}"))
