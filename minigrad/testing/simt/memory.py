"""Floor 6: memory as a kernel sees it: elements inside of an array, and nothing else.

A kernel gets ``Array``s for its arguments and for its shared and local arrays. An integer is read as a Python integer:
Numba computes in 64 bits whatever the array's width, and so wraps where a Python integer does not, but never at 32.
With races watched the arrays are those of ``races.py``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.testing.simt.faults import BoundsError
from minigrad.testing.simt.here import cuda


class Array:
    """``elements`` with a ``name`` for messages; ``aligned``: its first element is, to so many bytes."""

    __slots__ = ("aligned", "dtype", "elements", "get", "memory", "name", "shape", "writable")

    def __init__(self, elements: np.ndarray, name: str, aligned: int = 256, memory: Any = None, writable: bool = True):
        self.elements, self.name, self.aligned, self.memory = elements, name, aligned, memory
        self.shape, self.dtype, self.writable = elements.shape, elements.dtype, writable
        whole = self.dtype.kind in "ib" or (self.dtype.kind == "u" and self.dtype.itemsize < 8)
        self.get = elements.item if whole else elements.__getitem__

    size = property(lambda self: self.elements.size)
    ndim = property(lambda self: self.elements.ndim)
    itemsize = property(lambda self: self.dtype.itemsize)
    strides = property(lambda self: self.elements.strides)
    T = property(lambda self: self.part(self.elements.T))

    def __len__(self) -> int:
        return self.shape[0]

    # ------------------------------------------------------------------ access

    def __getitem__(self, i: Any) -> Any:
        try:
            if len(i) == len(self.shape) and min(i) >= 0:
                return self.get(i)
        except (IndexError, TypeError):
            pass
        i = self.index(i)
        return self.get(i) if i.__class__ is tuple else i

    def __setitem__(self, i: Any, value: Any) -> None:
        try:
            if len(i) == len(self.shape) and min(i) >= 0 and self.writable:
                self.elements[i] = value
                return
        except (IndexError, TypeError, OverflowError):
            pass
        i = self.index(i)
        if i.__class__ is not tuple:
            return i.fill(value)
        if not self.writable:
            raise BoundsError(f"{self.name} is constant; it cannot be written")
        try:
            self.elements[i] = value
        except OverflowError:  # as machine integers do
            self.elements[i] = wrap(value, self.dtype)

    def index(self, i: Any) -> Any:
        """A tuple of positions inside of the array; or, where ``i`` has slices or is short, the part that it means."""
        i = i if i.__class__ is tuple else (i,)
        if len(i) > len(self.shape):
            raise BoundsError(f"{self.name} has {len(self.shape)} axes; {len(i)} indices")
        for k, n in zip(i, self.shape):
            if isinstance(k, slice) or k is Ellipsis:
                return self.part(self.elements[i])
            if not isinstance(k, (int, np.integer)):
                raise BoundsError(f"{self.name}[{k!r}]: an index is a whole number, not a {type(k).__name__}")
            if not 0 <= k < n:
                raise BoundsError(self._outside(i))
        if len(i) < len(self.shape):
            return self.part(self.elements[i])
        return i

    def _outside(self, i: tuple) -> str:
        at = ", ".join(map(str, i))
        negative = " (a negative index does not count from the end)" if min(i) < 0 else ""
        return f"{self.name}[{at}] is outside of its shape {self.shape}{negative}"

    def part(self, elements: np.ndarray) -> Array:
        aligned = math.gcd(self.aligned, address_of(elements) - address_of(self.elements))
        return array(elements, self.name, aligned, self.memory, self.writable)

    def fill(self, value: Any) -> None:
        """``x[2:4] = value``, element by element."""
        given = isinstance(value, (Array, np.ndarray))
        for i in np.ndindex(self.shape):
            self[i] = value[i if len(i) > 1 else i[0]] if given else value

    def reshape(self, *shape: Any) -> Array:
        found = self.elements.reshape(*shape)
        if not np.may_share_memory(found, self.elements):
            raise BoundsError(f"{self.name} is not contiguous; it cannot be reshaped")
        return self.part(found)

    def view(self, dtype: Any) -> Array:
        return self.part(self.elements.view(dtype_of(dtype)))

    # ------------------------------------------------------------------ what ``races.py`` watches

    def change(self, i: Any, new: Any) -> Any:
        """Atomically x[i] = new(x[i]); the old value."""
        i = self.index(i)
        old = self.get(i)
        value = new(old)
        try:
            self.elements[i] = value
        except OverflowError:
            self.elements[i] = wrap(value, self.dtype)
        return old

    def span(self, i: Any, n: int) -> np.ndarray:
        """The elements of an access of n neighbours along the last axis, as the memory holds them."""
        i = i if i.__class__ is tuple else (i,)
        *front, last = self.index(i)
        if last + n > self.shape[-1]:
            raise BoundsError(self._outside((*front, last + n - 1)))
        size, strides = n * self.dtype.itemsize, self.elements.strides
        if n > 1 and strides[-1] != self.dtype.itemsize:
            raise BoundsError(f"{self.name}: {n} neighbours are not side by side in memory")
        if sum(k * s for k, s in zip(i, strides)) % min(size, 16) or self.aligned % min(size, 16):
            need = "" if self.aligned % min(size, 16) == 0 else f": the array is aligned to {self.aligned} bytes only"
            raise BoundsError(f"{self.name}[{', '.join(map(str, i))}]: {size} bytes at once must be aligned{need}")
        return self.elements[(*front, slice(last, last + n))]

    def load(self, i: Any, n: int) -> np.ndarray:
        return self.span(i, n).copy()

    def store(self, i: Any, values: Any) -> None:
        self.span(i, len(values))[:] = values

    def begin_copy(self, i: Any, n: int) -> None:
        """An asynchronous copy is on its way: what is there now is no longer, and what comes is not there yet."""
        poison(self.span(i, n))

    end_copy = store

    def acquire(self, i: Any) -> Any:
        return self[i]


class Vector(Array):
    """An array of one axis, which most are: the same, faster."""

    __slots__ = ()

    def __getitem__(self, i: Any) -> Any:
        try:
            if i >= 0:
                return self.get(i)
        except (IndexError, TypeError):
            pass
        return Array.__getitem__(self, i)

    def __setitem__(self, i: Any, value: Any) -> None:
        try:
            if i >= 0 and self.writable:
                self.elements[i] = value
                return
        except (IndexError, TypeError, OverflowError):
            pass
        Array.__setitem__(self, i, value)


def array(elements: np.ndarray, name: str, aligned: int = 256, memory: Any = None, writable: bool = True) -> Array:
    """An array for a kernel, watched if ``memory`` says so."""
    if memory is not None:
        return memory.array(elements, name, aligned, memory, writable)
    return (Vector if elements.ndim == 1 else Array)(elements, name, aligned, None, writable)


class Place:
    """The address of an element: what instructions get. ``read`` and ``write`` move n neighbours, checked as one access
    of so many bytes."""

    __slots__ = ("array", "i")

    def __init__(self, array: Array, i: Any = 0):
        self.array, self.i = array, i

    def __add__(self, n_bytes: int) -> Place:
        i = self.i if isinstance(self.i, tuple) else (self.i,)
        return Place(self.array, (*i[:-1], i[-1] + int(n_bytes) // self.array.dtype.itemsize))

    def read(self, n: int = 1) -> np.ndarray:
        return self.array.load(self.i, n)

    def write(self, values: Any) -> None:
        self.array.store(self.i, values)

    def copy_async(self, source: Place, size: int) -> None:
        """``size`` bytes from ``source`` to here, there when the thread has waited for them (``cp.async``)."""
        n = size // self.array.dtype.itemsize
        values = source.read(size // source.array.dtype.itemsize).view(self.array.dtype)
        self.array.begin_copy(self.i, n)
        cuda.thread.copies[-1].append((self, values))


def commit_copies() -> None:
    """Copies begun so far are a group (``cp.async.commit_group``)."""
    cuda.thread.copies.append([])


def wait_copies(left: int = 0) -> None:
    """Wait until at most ``left`` groups are on their way (``cp.async.wait_group``)."""
    copies = cuda.thread.copies
    while len(copies) - 1 > left:
        for to, values in copies.pop(0):
            to.array.end_copy(to.i, values)


# ---------------------------------------------------------------------------------------------------- raw memory


def address_of(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]


def dtype_of(x: Any) -> np.dtype:
    """The dtype that types of NumPy, of Numba and of the emulator mean."""
    own = getattr(x, "dtype", None)
    if isinstance(own, np.dtype):
        return own
    try:
        return np.dtype(x)
    except TypeError:
        return np.dtype(str(x))


def wrap(value: Any, dtype: np.dtype) -> int:
    """An integer as so many bits hold it."""
    bits = 8 * dtype.itemsize
    found = int(value) & (1 << bits) - 1
    return found - (1 << bits) if dtype.kind == "i" and found >> bits - 1 else found


def poison(x: np.ndarray) -> None:
    """What fresh memory holds: NaN, or a number that is no index."""
    x[...] = np.nan if x.dtype.kind == "f" else True if x.dtype.kind == "b" else np.iinfo(x.dtype).max


def poisoned(shape: Any, dtype: Any) -> np.ndarray:
    found = np.empty(shape, dtype_of(dtype))
    poison(found)
    return found
