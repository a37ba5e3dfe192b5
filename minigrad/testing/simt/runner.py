"""Floor 6: the runner: every CUDA thread is a greenlet, and all run in one thread of the system, one after another.

A thread runs until it comes to a barrier or a warp function; then the next one does. Blocks run one after another, but
those that wait at a barrier of the grid or of a group of blocks are kept. Without any of these no greenlets are needed.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from minigrad.errors import DeviceError, describe
from minigrad.testing.simt import faults
from minigrad.testing.simt.faults import BoundsError, DivergenceError, EndlessError, KernelError
from minigrad.testing.simt.here import cuda
from minigrad.testing.simt.memory import Array, array
from minigrad.testing.simt.models import COLLECTIVES
from minigrad.testing.simt.races import Clocks, Memory
from minigrad.testing.simt.translate import Translated, translate

try:
    from greenlet import getcurrent, greenlet
except ImportError:  # said by ``need``
    greenlet = None  # type: ignore[assignment, misc]

_ONE = threading.RLock()  # ``cuda`` is one for all


def need() -> None:
    if greenlet is None:
        do = "pip install 'minigrad[simt]'"
        raise DeviceError(describe("simt", "no greenlet", "the package that switches between threads", do))


class Dim3:
    __slots__ = ("size", "x", "y", "z")

    def __init__(self, x: int = 1, y: int = 1, z: int = 1):
        self.x, self.y, self.z, self.size = x, y, z, x * y * z

    def __repr__(self) -> str:
        return f"({self.x}, {self.y}, {self.z})"


@cache
def places(shape: tuple[int, int, int]) -> list[Dim3]:
    x, y, z = map(range, shape)
    return [Dim3(i, j, k) for k in z for j in y for i in x]


def dim3(shape: Any) -> Dim3:
    shape = (shape,) if isinstance(shape, (int, np.integer)) else shape
    if not 1 <= len(shape) <= 3 or any(int(n) < 1 for n in shape):
        raise ValueError(f"a grid or a block has 1 to 3 sizes of 1 and more, not {shape}")
    return Dim3(*map(int, shape))


class Thread:
    """``number``: in the grid. ``wait`` says what it waits for, ``value`` what it brought there, then what it gets.
    ``copies``: groups of asynchronous copies on their way."""

    __slots__ = ("block", "copies", "done", "green", "lane", "number", "place", "value", "wait")

    def __init__(self, block: Block, place: Dim3, number: int):
        self.block, self.place, self.number, self.lane = block, place, number, (number - block.first) % 32
        self.wait: tuple | None = None
        self.value: Any = None
        self.done = False
        self.green: Any = None
        self.copies: list[list] = [[]]


class Block:
    """``arrays``: its shared arrays, by the place in the text where they are made."""

    def __init__(self, place: Dim3, first: int):
        self.place, self.first = place, first
        self.arrays: dict[Any, Array] = {}
        self.threads: list[Thread] = []
        self.dynamic: Any = None
        self.wait: tuple | None = None  # a barrier for more than a block


class Launch:
    """One kernel with its grid.

    shared: bytes of dynamic shared memory
    seed:   shuffles the order in which blocks, warps and lanes run
    races:  watch which accesses nothing orders, and reads of what nobody wrote
    limit:  switches between threads, after which the kernel is said not to end
    cooperative: all blocks run at the same time, so they may wait for each other
    """

    def __init__(self, kernel: Translated, grid: Any, threads: Any, args: Sequence[Any], *, shared: int = 0,
                 seed: int | None = None, races: bool = False, limit: int = 5_000_000,
                 shared_limit: int = 227 * 1024, cooperative: bool = True):  # fmt: skip
        need()
        self.kernel, self.args, self.grid, self.shape = kernel, args, dim3(grid), dim3(threads)
        if self.shape.size > 1024:
            raise ValueError(f"a block has 1024 threads at most, not {self.shape.size}")
        if self.grid.x >= 2**31 or max(self.grid.y, self.grid.z) > 65535:
            raise ValueError(f"a grid has 2^31 - 1, 65535 and 65535 blocks at most, not {self.grid}")
        if shared > shared_limit:
            raise BoundsError(f"{shared} bytes of shared memory; a block may have {shared_limit}")
        self.shared, self.limit, self.shared_limit, self.cooperative = shared, limit, shared_limit, cooperative
        self.random = np.random.default_rng(seed) if seed is not None else None
        self.races, self.switches = races, 0
        self.clocks = Clocks(self.grid.size * self.shape.size if races else 0)

    def memory(self, written: Any, granule: int = 8, base: int | None = None) -> Memory | None:
        """For arrays of this launch."""
        return Memory(written, granule, base) if self.races else None

    def run(self) -> None:
        with _ONE, np.errstate(all="ignore"):
            before = dict(cuda.__dict__)
            cuda.launch, cuda.gridDim, cuda.blockDim = self, self.grid, self.shape
            try:
                self._together() if self.kernel.pauses else self._one_by_one()
            except Exception as error:
                self._say_where(error)
                raise
            finally:
                cuda.__dict__.update(before)

    # ------------------------------------------------------------------ without barriers

    def _one_by_one(self) -> None:
        function, args, shape = self.kernel.function, self.args, places((self.shape.x, self.shape.y, self.shape.z))
        for b in self._order(self.grid.size):
            block = Block(places((self.grid.x, self.grid.y, self.grid.z))[b], int(b) * len(shape))
            cuda.thread = thread = Thread(block, shape[0], block.first)
            cuda.blockIdx = block.place
            for i in self._order(len(shape)):
                cuda.threadIdx = thread.place = shape[i]
                cuda.laneid = thread.lane = int(i) % 32
                thread.number, thread.copies = block.first + int(i), [[]]
                function(*args)

    # ------------------------------------------------------------------ with barriers

    def _together(self) -> None:
        self.context = contextvars.copy_context()
        inside, waiting = places((self.shape.x, self.shape.y, self.shape.z)), []
        grid = places((self.grid.x, self.grid.y, self.grid.z))
        for b in self._order(self.grid.size):
            block = Block(grid[b], int(b) * len(inside))
            block.threads = [Thread(block, p, block.first + i) for i, p in enumerate(inside)]
            if self._go(block):
                waiting.append(block)
        while waiting:
            self._release(waiting)
            waiting = [b for b in waiting if b.wait is not None or self._go(b)]

    def _release(self, waiting: list[Block]) -> None:
        """Let go the blocks whose barrier of the grid or of a group is complete."""
        meeting: dict[tuple, list[Block]] = {}
        for b in waiting:
            if b.wait is not None:
                meeting.setdefault(b.wait, []).append(b)
        full = [(wait, blocks) for wait, blocks in meeting.items() if len(blocks) == wait[1]]
        for _, blocks in full:
            threads = [t for b in blocks for t in b.threads]
            if threads[0].value is not None:
                threads[0].value(len(blocks))
            self._free(threads)
            for b in blocks:
                b.wait = None
        if not full and all(b.wait is not None for b in waiting):
            found = [f"a barrier that not every block reaches; {self.grid.size - len(waiting)} blocks have ended"]
            for (word, need, *_), blocks in meeting.items():
                t = blocks[0].threads[0]
                found.append(f"  {len(blocks)} of {need} blocks wait for {word}: {faults.place(t.number, self)} at "
                             f"{self._line(t)}")  # fmt: skip
            raise DivergenceError("\n".join(found))

    def _go(self, block: Block) -> bool:
        """Run a block to its end; or, True, to a barrier that other blocks have to reach or until it only spins."""
        threads = block.threads
        warps = [threads[i : i + 32] for i in range(0, len(threads), 32)]
        while True:
            spins = [self._go_warp(warps[i]) for i in self._order(len(warps))]
            if any(spins):
                return True
            live = [t for t in threads if not t.done]
            if not live:
                return False
            kinds = {t.wait for t in live}
            if len(kinds) > 1:
                raise DivergenceError(self._apart(live))
            if len(live) < len(threads):
                raise DivergenceError(
                    f"a barrier that {len(live)} of {len(threads)} threads reach; the others have ended\n"
                    f"  {faults.place(live[0].number, self)} waits at {self._line(live[0])}"
                )
            wait = live[0].wait
            if wait[0] != "syncthreads":  # type: ignore[index]
                if not self.cooperative and self.grid.size > 1:
                    raise DivergenceError(f"{wait[0]} in a launch that is not cooperative: its blocks may run one by "
                                          f"one\n  at {self._line(live[0])}")  # fmt: skip
                block.wait = wait
                return True
            COLLECTIVES[wait[1]](live)  # type: ignore[index]
            self._free(live)

    def _go_warp(self, warp: list[Thread]) -> bool:
        """Every lane up to its next barrier of block or grid; or, True, until all that go on only spin."""
        hub, function, args = getcurrent(), self.kernel.function, self.args
        while True:
            ready = [t for t in warp if t.wait is None and not t.done]
            self.switches += len(ready)
            if self.switches > self.limit:
                raise EndlessError(f"{self.limit} switches between threads, and no end; a thread is at "
                                   f"{self._line(ready[0])}")  # fmt: skip
            for i in self._order(len(ready)):
                t = cuda.thread = ready[i]
                cuda.threadIdx, cuda.blockIdx, cuda.laneid = t.place, t.block.place, t.lane
                if t.green is None:
                    t.green = greenlet(function, hub)
                    t.green.gr_context = self.context
                    t.green.switch(*args)
                else:
                    t.green.switch()
                t.done = t.green.dead
            groups: dict[tuple, list[Thread]] = {}
            spins = False
            for t in warp:
                if t.wait is not None:
                    if t.wait[0] == "warp":
                        groups.setdefault(t.wait, []).append(t)
                    elif t.wait[0] == "spin":
                        spins, t.wait = True, None
            met = False
            for (_, name, mask), group in groups.items():
                if len(group) == sum(mask >> t.lane & 1 and not t.done for t in warp):
                    met = True
                    cuda.thread = group[0]
                    COLLECTIVES[name](group)
                    for t in group:
                        t.wait = None
            if spins and not met:
                return True
            if not met:
                if groups:
                    raise DivergenceError(self._missing(groups, warp))
                return False

    def _free(self, threads: list[Thread]) -> None:
        for t in threads:
            t.wait = None
        if self.races:
            self.clocks.meet(t.number for t in threads)

    def _order(self, n: int) -> Any:
        return range(n) if self.random is None else self.random.permutation(n)

    def pause(self, wait: tuple, value: Any = None) -> Any:
        """Called by the thread that runs: wait, and give what it gets."""
        t = cuda.thread
        if wait[0] == "warp" and not wait[2] >> t.lane & 1:
            raise DivergenceError(f"{wait[1]} with the mask {wait[2]:#x}, in which lane {t.lane} itself is not")
        t.wait, t.value = wait, value
        t.green.parent.switch()
        return t.value

    # ------------------------------------------------------------------ messages

    def _line(self, t: Thread) -> str:
        return faults.line(faults.of_kernel(t.green.gr_frame) if t.green else None)

    def _apart(self, live: list[Thread]) -> str:
        one = {t.wait: t for t in reversed(live)}
        lines = [f"  {faults.place(t.number, self)} waits at {self._line(t)}" for t in one.values()]
        return "\n".join(["threads of a block wait at different barriers", *lines])

    def _missing(self, groups: dict[tuple, list[Thread]], warp: list[Thread]) -> str:
        found = ["a function of a warp that not all lanes of its mask reach"]
        for (_, name, mask), group in groups.items():
            here = {t.lane for t in group}
            away = [t for t in warp if mask >> t.lane & 1 and t.lane not in here and not t.done]
            found.append(f"  {name} with the mask {mask:#x}: lanes {sorted(here)} wait at {self._line(group[0])}")
            found += [f"    lane {t.lane} is at {self._line(t)}" for t in away[:3]]
        return "\n".join(found)

    def _say_where(self, error: Exception) -> None:
        """Add kernel, block, thread and line."""
        where = faults.of_error(error.__traceback__)
        thread, at = cuda.thread, ""
        if where is not None and where[0] in self.kernel.codes:
            at = f"{faults.place(thread.number, self)}, {faults.line(where)}"
        elif thread is not None and thread.wait is not None and not isinstance(error, (DivergenceError, EndlessError)):
            at = f"the warp of {faults.place(thread.number, self)}, {self._line(thread)}"
        text = f"[{self.kernel.name}] " + (at and f"{at}\n  ")
        if isinstance(error, KernelError):
            error.args = (text + str(error.args[0]),)
        else:
            error.add_note(f"{text.rstrip()} (grid {self.grid}, block {self.shape})")


def run(kernel: Any, grid: Any, block: Any, *args: Any, shared: int = 0, seed: int | None = None, races: bool = False,
        limit: int = 5_000_000) -> None:  # fmt: skip
    """Run a CUDA kernel on the CPU: of ``@cuda.jit``, or a plain function in which ``cuda`` is that of ``numba.cuda``
    or of ``simt``. Arguments are NumPy arrays, which it changes, and numbers.

    shared: bytes of dynamic shared memory; seed: shuffle the order of blocks, warps and lanes;
    races:  find accesses that nothing orders, and reads of what nobody wrote (five times slower, or more);
    limit:  switches between threads, after which the kernel is said not to end.

    Raises ``BoundsError``, ``DivergenceError``, ``RaceError``, ``UnwrittenError`` or ``EndlessError``, each with block,
    thread and line.
    """
    found = translate(kernel)
    launch = Launch(found, grid, block, (), shared=shared, seed=seed, races=races, limit=limit)
    names = found.function.__code__.co_varnames[: found.function.__code__.co_argcount]
    if len(args) != len(names):
        raise TypeError(f"{found.name} takes {len(names)} arguments, {len(args)} given")
    memory = launch.memory(True)
    launch.args = [array(x, n, 256, memory) if isinstance(x, np.ndarray) else x for n, x in zip(names, args)]
    launch.run()
