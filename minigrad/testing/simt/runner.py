"""Floor 6: the runner: every CUDA thread is a greenlet, and all run in one thread of the system, one after another.

A thread runs until it comes to a barrier or a warp function; then the next one does. Blocks run one after another, but
those that wait at a barrier of the grid are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.errors import MinigradError
from minigrad.testing.simt.models import COLLECTIVES

try:
    from greenlet import getcurrent, greenlet
except ImportError:  # said by ``device()``
    greenlet = None  # type: ignore[assignment, misc]


class DivergenceError(MinigradError):
    """Threads that should meet do not."""


class Dim3:
    __slots__ = ("x", "y", "z")

    def __init__(self, x: int = 1, y: int = 1, z: int = 1):
        self.x, self.y, self.z = x, y, z

    @property
    def size(self) -> int:
        return self.x * self.y * self.z

    def places(self) -> list[Dim3]:
        return [Dim3(x, y, z) for z in range(self.z) for y in range(self.y) for x in range(self.x)]


class Thread:
    """``wait`` says what it waits for, ``value`` what it brought there, and then what it gets."""

    __slots__ = ("block", "done", "green", "lane", "number", "place", "value", "wait", "warp")

    def __init__(self, block: Block, place: Dim3, number: int):
        self.block, self.place, self.number = block, place, number
        self.lane, self.warp = number % 32, number // 32
        self.wait: tuple | None = None
        self.value: Any = None
        self.done = False
        self.green: Any = None


class Block:
    def __init__(self, place: Dim3, shape: Dim3, shared: int):
        self.place = place
        self.threads = [Thread(self, p, i) for i, p in enumerate(shape.places())]
        self.warps = [self.threads[i : i + 32] for i in range(0, len(self.threads), 32)]
        self.dynamic = np.full(shared, 255, np.uint8)  # NaN, read as floats
        self.arrays: dict[Any, np.ndarray] = {}


class Launch:
    """One kernel with its grid. ``seed`` shuffles the order in which warps and lanes run."""

    def __init__(self, kernel: Callable, grid: Any, threads: Any, args: Sequence[Any], shared: int = 0,
                 seed: int | None = None):  # fmt: skip
        self.kernel, self.args = kernel, args
        self.grid, self.shape = (Dim3(*((v,) if isinstance(v, int) else v)) for v in (grid, threads))
        self.shared, self.random = shared, np.random.default_rng(seed) if seed is not None else None
        self.thread: Thread = None  # type: ignore[assignment]  # that runs now

    def run(self) -> None:
        waiting = []
        for place in self.grid.places():
            block = Block(place, self.shape, self.shared)
            if self._go(block):
                waiting.append(block)
        live = len(waiting)
        while waiting:
            meeting: dict[tuple, list[Block]] = {}
            for block in waiting:
                meeting.setdefault(block.threads[0].wait, []).append(block)  # type: ignore[arg-type]
            full = [w for w, blocks in meeting.items() if len(blocks) == (w[3] if w[0] == "group" else self.grid.size)]
            if not full:
                raise DivergenceError(f"barriers that not every block reaches: {list(meeting)} ({live} blocks wait)")
            for wait in full:
                for block in meeting[wait]:
                    for t in block.threads:
                        t.wait = None
                if wait[0] != "warp" and len(wait) > 4:
                    wait[1].arrive(*wait[2:])
            waiting = [b for b in waiting if b.threads[0].wait or self._go(b)]
            live = len(waiting)

    def _go(self, block: Block) -> bool:
        """Run a block to its end, or to a barrier of the grid: True."""
        while True:
            for i in self._order(len(block.warps)):
                self._go_warp(block.warps[i])
            live = [t for t in block.threads if not t.done]
            if not live:
                return False
            kinds = {t.wait for t in live}
            if len(live) < len(block.threads):
                raise DivergenceError(f"a barrier {kinds} after some threads have ended")
            if len(kinds) > 1:
                raise DivergenceError(f"threads wait at different barriers: {kinds}")
            if next(iter(kinds))[0] in ("grid", "group"):
                return True
            for t in live:
                t.wait = None

    def _order(self, n: int) -> Any:
        return range(n) if self.random is None else self.random.permutation(n)

    def _go_warp(self, warp: list[Thread]) -> None:
        """Every lane up to its next barrier of block or grid."""
        hub = getcurrent()
        while True:
            ready = [t for t in warp if not t.done and t.wait is None]
            for i in self._order(len(ready)):
                t = self.thread = ready[i]
                if t.green is None:
                    t.green = greenlet(lambda: self.kernel(*self.args))
                t.green.parent = hub
                t.green.switch()
                t.done = t.green.dead
            groups: dict[tuple, list[Thread]] = {}
            for t in warp:
                if not t.done and t.wait[0] == "warp":  # type: ignore[index]
                    groups.setdefault(t.wait, []).append(t)  # type: ignore[arg-type]
            if not groups:
                return
            met = False
            for (_, name, mask), group in groups.items():
                if len(group) == sum(mask >> t.lane & 1 and not t.done for t in warp):
                    met = True
                    COLLECTIVES[name](group)
                    for t in group:
                        t.wait = None
            if not met:
                raise DivergenceError(f"warp functions that not all lanes of their mask reach: {list(groups)}")

    def pause(self, wait: tuple, value: Any = None) -> Any:
        """Called by the thread that runs: wait, and give what it gets."""
        t = self.thread
        t.wait, t.value = wait, value
        t.green.parent.switch()
        self.thread = t
        return t.value


def run(kernel: Callable, grid: Any, threads: Any, *args: Any, shared: int = 0, seed: int | None = None) -> None:
    """Run a kernel, a function in which ``cuda`` is that of ``simt.vocabulary``."""
    from minigrad.testing.simt.vocabulary import running

    with running(Launch(kernel, grid, threads, args, shared, seed)) as launch, np.errstate(all="ignore"):
        launch.run()
