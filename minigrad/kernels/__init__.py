"""Floor 2: the backends, one for each kind of device array.

``backend_of(array)`` finds the module whose functions take such arrays. A device adds itself with ``register``.
"""

from __future__ import annotations

from types import ModuleType

from minigrad.errors import DeviceError, describe
from minigrad.kernels import abstract, cpu

BACKENDS: dict[type, ModuleType] = {cpu.array_type: cpu, abstract.array_type: abstract}


def register(backend: ModuleType) -> None:
    BACKENDS[backend.array_type] = backend


def named(name: str | None) -> ModuleType:
    """The backend of a device name; None is the CPU."""
    devices = {b.name: b for b in BACKENDS.values() if b is not abstract}
    if (name or "cpu") in devices:
        return devices[name or "cpu"]
    known = ", ".join(sorted(devices))
    raise DeviceError(describe("device", repr(name), f"one of: {known}"))
