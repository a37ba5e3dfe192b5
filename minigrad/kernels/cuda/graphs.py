"""Floor 2, CUDA: many small launches that come again on the same memory run as one graph.

Starting a kernel takes the host longer than a small kernel runs. What is dropped first is used again first
(``memory.py``), so a program that repeats itself, such as training, soon finds its arrays at the addresses they had
before; then a graph that was recorded for those addresses does what the launches would.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from minigrad.kernels.cuda.array import DeviceArray
from minigrad.kernels.cuda.device import Array, Device

_ONCE = object()  # it came once, which is not worth a recording


class Graphs:
    """The latest ``most`` of a device's graphs."""

    def __init__(self, device: Device, most: int = 64):
        self.device, self.most = device, most
        self.known: dict[Hashable, Any] = {}

    def run(self, key: Hashable, arrays: Sequence[Array], launch: Callable[[], None]) -> None:
        """``launch()``, which only starts kernels: always the same for one ``key``, on ``arrays`` at the same places,
        and on memory of its own."""
        if self.device.recording:  # of something larger
            launch()
            return
        place = key, *[self.device.address(x) for x in arrays]
        found = self.known.pop(place, None)
        if found is None:
            launch()
            found = _ONCE
        else:
            found = self._record(arrays, launch) if found is _ONCE else found
            found[0]()
        self.known[place] = found
        if len(self.known) > self.most:
            del self.known[next(iter(self.known))]

    def _record(self, arrays: Sequence[Array], launch: Callable[[], None]) -> tuple[Callable[[], None], list]:
        """The graph, and the memory of its own, which nobody else may get."""
        with self.device.capture() as graph:
            launch()
        given = {id(x.memory) for x in arrays}
        used = [x for one in graph.launches for x in one[3] if isinstance(x, DeviceArray)]
        return graph.run, [x.memory for x in used if id(x.memory) not in given]  # type: ignore[return-value]
