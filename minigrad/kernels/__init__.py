"""Floor 2: the backends, one for each kind of array.

``backend_of(array)`` finds the module whose functions take such arrays. A device adds itself with ``register``.
"""

from __future__ import annotations

from types import ModuleType

from minigrad.errors import DeviceError, describe
from minigrad.kernels import abstract, cpu, sparse

BACKENDS: dict[type, ModuleType] = {b.array_type: b for b in (cpu, abstract, sparse)}


def register(backend: ModuleType) -> None:
    BACKENDS[backend.array_type] = backend


def devices() -> dict[str, ModuleType]:
    """The backends that arrays are made on, by name."""
    return {b.name: b for b in BACKENDS.values() if b not in (abstract, sparse)}


def named(name: str | None) -> ModuleType:
    """The backend of a device name; None is the CPU."""
    found = devices().get(name or "cpu")
    if found is not None:
        return found
    known = ", ".join(sorted(devices()))
    raise DeviceError(describe("device", repr(name), f"one of: {known}"))
