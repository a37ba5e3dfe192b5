"""Floor 2, CUDA: memory of dropped arrays is used again: asking the driver for each array costs more than a kernel.

All kernels and copies of a device run on one stream in their order, so memory can be given on as soon as the last array
in it is dropped: what still runs on the device was started earlier.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


def size_class(size: int) -> int:
    """The size rounded up: to 512 bytes, above 4 KiB to an eighth of a power of two."""
    step = max(512, 1 << max(size - 1, 1).bit_length() >> 4)
    return max(-(-size // step), 1) * step


class Memory:
    """Some bytes on a device, back in the pool when nobody holds them."""

    __slots__ = ("address", "buffer", "pool", "size")

    def __init__(self, pool: Pool | None, buffer: Any, address: int, size: int):
        self.pool, self.buffer, self.address, self.size = pool, buffer, address, size

    def __del__(self) -> None:
        if self.pool is not None:
            self.pool.give_back(self.buffer, self.address, self.size)


class Pool:
    """Memory by size class. ``allocate(size)`` asks the driver: (an object that holds the memory, its address).

    limit: bytes that may lie unused; what is dropped beyond goes back to the driver
    """

    def __init__(self, allocate: Callable[[int], tuple[Any, int]], limit: int):
        self.allocate, self.limit = allocate, limit
        self.idle: dict[int, list[tuple[int, Any]]] = defaultdict(list)
        self.idle_bytes = self.used_bytes = self.asked = self.reused = 0

    def take(self, size: int) -> Memory:
        """Memory of at least ``size`` bytes, with whatever values it has."""
        size = size_class(size)
        try:
            address, buffer = heappop(self.idle[size])
            self.idle_bytes -= size
            self.reused += 1
        except IndexError:
            try:
                buffer, address = self.allocate(size)
            except MemoryError:
                self.clear()
                buffer, address = self.allocate(size)
            self.asked += 1
        self.used_bytes += size
        return Memory(self, buffer, address, size)

    def give_back(self, buffer: Any, address: int, size: int) -> None:
        self.used_bytes -= size
        if self.idle_bytes + size <= self.limit:
            heappush(self.idle[size], (address, buffer))
            self.idle_bytes += size

    def clear(self) -> None:
        """Give to the driver what nobody uses."""
        self.idle.clear()
        self.idle_bytes = 0

    def statistics(self) -> dict[str, int]:
        """Bytes in arrays and bytes kept for new ones; how often the driver was asked, and how often it was not."""
        return {"used": self.used_bytes, "idle": self.idle_bytes, "asked": self.asked, "reused": self.reused}
