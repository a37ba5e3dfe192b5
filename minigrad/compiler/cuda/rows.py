"""Floor 4: row functions as the code of CUDA threads.

Where every number of a row is computed alone, a thread computes column j of row b, and every width of the event has
lines of its own (``Columns``). Where a sum over the row is needed, a warp computes row b (``Warp``): its lanes walk
over the columns, and a sum goes through the lanes in one fixed order.

The text names flat pointers (``z4``, by the names of buffers), and whole numbers: widths ``w_z4``, sizes and columns
``n0``, rows ``now``, ``before``, ``after``, ``s``, ``batch``. Kernels take them as arguments (``Table``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from minigrad import scalars
from minigrad.compiler.graph import Value
from minigrad.compiler.plan import Buffer, Place, Store
from minigrad.compiler.rows import RowFunction, Slots, over_row
from minigrad.kernels.cuda.language import cuda

ROW = {
    "time": "now + {b}", "before": "before + {b}", "after": "after + {b}", "in": "(1 - (s & 1)) * batch + {b}",
    "out": "(s & 1) * batch + {b}", "step": "{b}", "member": "{b}", "one": "", "worker": "{b}",
}  # fmt: skip


def warp_sum(x):
    """The sum over the lanes of a warp, in every lane, in one fixed order."""
    d = 16
    while d > 0:
        x = x + cuda.shfl_xor_sync(0xFFFFFFFF, x, d)
        d >>= 1
    return x


def warp_max(x):
    d = 16
    while d > 0:
        y = cuda.shfl_xor_sync(0xFFFFFFFF, x, d)
        x = y if y > x else x
        d >>= 1
    return x


class Table(Slots):
    """What the text of a kernel names, which is what the kernel must be given."""

    constant_name = "c{}"

    def __init__(self) -> None:
        super().__init__()
        self.buffers: dict[str, Buffer] = {}
        self.given: dict[str, None] = {}  # widths that every call brings

    def width(self, buffer: Buffer) -> str:
        if buffer.name.startswith("gy"):  # 0 where the cotangent is zero in every row
            self.given[f"w_{buffer.name}"] = None
            return f"w_{buffer.name}"
        return self.named(f"w_{buffer.name}", buffer.width)

    def loop(self, width: int) -> str:
        """The size of loops over so many columns."""
        return self.size(("loop", width), width)

    def element(self, place: Place, b: str) -> str:
        """The index, in its buffer, of the first number of row b of a place; the sum over all steps has a row for each
        member, too."""
        buffer = place.buffer
        self.buffers[buffer.name] = buffer
        row = ROW[buffer.rows].format(b=b)
        row = f"({row})" if " " in row else row
        terms = [f"{row} * {self.width(buffer)}"] if row else []
        column = self.column(place)
        return " + ".join([*terms, *([column] if column else [])]) or "0"


class Access(NamedTuple):
    """A place that a loop over ``width`` columns reads or writes, in column j of them, or one number with ``single``,
    which has ``width`` 1."""

    place: Place
    width: int
    single: bool

    def overlaps(self, other: Access) -> bool:
        a, b = self.place, other.place
        return a.buffer == b.buffer and a.column < b.column + other.width and b.column < a.column + self.width


class Loop(NamedTuple):
    """Lines of one thread for column j of row b, 0 <= j < size. ``width`` is that size in this plan."""

    size: str
    width: int
    lines: list[str]
    reads: list[Access]
    writes: list[Access]


class _Thread(RowFunction):
    """``loops`` in their order, each of which can be run for itself."""

    slots: Table

    def __init__(self, name: str, stores: list[Store], place: Callable[[Value], Place | None], table: Table):
        self.loops: list[Loop] = []
        self.reads: list[Access] = []
        self.writes: list[Access] = []
        self._where: list[str] = []
        super().__init__(name, stores, place, table)

    def _load(self, place: Place, j: str, width: int) -> str:
        self.reads.append(Access(place, width, j == "0"))
        return self._index(place, j)

    def _store(self, place: Place, j: str, value: str, width: int, add: bool) -> str:
        access = Access(place, width, j == "0")
        self.writes.append(access)
        if add:
            self.reads.append(access)
        return f"{self._index(place, j)} {'+=' if add else '='} {value}"

    def _size(self, key: tuple, value: int) -> str:
        return self.slots.loop(value)

    def _index(self, place: Place, j: str) -> str:
        new = len(self.arrays)
        name = f"{self._array(place)}_at"
        if len(self.arrays) > new:
            self._where.append(f"{name} = {self.slots.element(place, 'b')}")
        return f"{place.buffer.name}[{name}]" if j == "0" else f"{place.buffer.name}[{name} + {j}]"


class Columns(_Thread):
    """An event without a sum over the row, and in which no loop writes what another reads."""

    @staticmethod
    def fits(stores: list[Store], place: Callable[[Value], Place | None]) -> bool:
        if over_row(stores, place):
            return False
        loops = Columns("", stores, place, Table()).loops
        return not any(w.overlaps(r) for a in loops for w in a.writes for b in loops if a is not b for r in b.reads)

    def _write_single(self, stores: list[Store]) -> None:
        self._apart("1", 1, lambda: super(Columns, self)._write_single(stores))

    def _write_loop(self, width: int, reductions: list[Value], stores: list[Store]) -> None:
        size = self.slots.loop(width)
        self._apart(size, width, lambda: super(Columns, self)._write_loop(width, reductions, stores))

    def _apart(self, size: str, width: int, write: Callable[[], None]) -> None:
        """A loop that takes nothing from those before it."""
        self.blocks, self.reads, self.writes, self._where = [], [], [], []
        self.arrays, self._names, self._single, self._stored, self._computed = {}, {}, {}, {}, {}
        write()
        lines = [line.removeprefix("    ") for block in self.blocks for line in block if line]
        self.loops.append(Loop(size, width, self._where + lines, self.reads, self.writes))

    def _walk(self, size: str) -> str:
        return ""


class Warp(_Thread):
    """An event as the code of ``lane`` (0 to 31) of the warp that computes row b: ``lines``."""

    def __init__(self, name: str, stores: list[Store], place: Callable[[Value], Place | None], table: Table):
        super().__init__(name, stores, place, table)
        self.functions |= {f.__name__: f for f in (warp_sum, warp_max, scalars.maximum)}
        self.lines = self._where + [line for block in self.blocks for line in block]

    def _write_single(self, stores: list[Store]) -> None:
        values = [self._number(t.value) for t in stores]
        self._line("cuda.syncwarp()")  # all lanes have read what is now overwritten
        self._line("if lane == 0:")
        for t, value in zip(stores, values):
            self._line("    " + self._store(t.place, "0", value, 1, t.add))

    def _write_loop(self, width: int, reductions: list[Value], stores: list[Store]) -> None:
        super()._write_loop(width, reductions, stores)
        for v in reductions:
            total = self._single[v.number]
            self._line(f"{total} = {'warp_sum' if v.kind == 'row_sum' else 'warp_max'}({total})")

    def _walk(self, size: str) -> str:
        return f"for j in range(lane, {size}, 32):"

    def _reduce(self, v: Value, total: str, operand: str) -> str:
        return f"{total} + {operand}" if v.kind == "row_sum" else f"maximum({total}, {operand})"
