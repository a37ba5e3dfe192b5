"""Floor 4: who computes what, when the blocks of a group share out the units of a cell, and where they must wait.

Of every loop over W columns, part p of G owns the columns W p // G to W (p + 1) // G. A product's result is owned
as its readers own it: z of four gates, each of width H, as four such ranges. A row function with sums over the row runs
whole rows, row b by part b % G. What a part reads of columns that another part wrote, or writes where another reads,
needs a barrier of the group in between; what other threads of its own block wrote, one of the block.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product as pairs
from typing import NamedTuple

from minigrad.compiler.cuda.rows import Access, Columns, Loop, Table, Warp
from minigrad.compiler.plan import Pass, Place, Plan, Product

NONE, BLOCK, GROUP = range(3)  # barriers; a stronger one does what the weaker does


class Use(NamedTuple):
    """Columns ``column`` .. ``column + width`` of a buffer in the rows of one step, read or written.

    tile:  "own" columns of every ``tile`` of them; 0: all of them, in the rows of this part with ``by_row``
    """

    buffer: str
    rows: str
    column: int
    width: int
    tile: int
    by_row: bool
    write: bool

    def row(self, step: int) -> tuple[str, int]:
        """Which memory, in the step that comes as number ``step``: a state behind a step is that before the next."""
        number = self.buffer.removeprefix(self.rows)
        if self.rows in ("before", "after"):
            return f"state{number}", step + (self.rows == "after")
        if self.rows in ("in", "out"):
            return f"carry{number}", (step + (self.rows == "out")) % 2
        return self.buffer, step if self.rows == "time" else 0

    def columns(self, part: int, parts: int) -> Iterator[int]:
        """Those that a part touches."""
        for first in range(self.column, self.column + self.width, self.tile or self.width):
            if self.tile:
                low, high = self.tile * part // parts, self.tile * (part + 1) // parts
                yield from range(first + low, first + high)
            else:
                yield from range(first, first + self.width)

    def alike(self, other: Use) -> bool:
        """Whether every number that both touch is touched by one part."""
        if self.tile and other.tile:
            return self.tile == other.tile and (self.column - other.column) % self.tile == 0
        return self.by_row and other.by_row


class Phase(NamedTuple):
    """An event of a step: a product whose result is owned in tiles, the loops of ``Columns``, or a ``Warp``."""

    work: Product | Columns | Warp
    uses: list[Use]
    tile: int = 0


def phases(name: str, plan: Plan, work: Pass, table: Table) -> list[Phase]:
    """The events of a pass, and what they touch."""
    found: list[Product | Columns | Warp] = []
    for event, ready in zip(work.events, work.ready):
        if isinstance(event, Product):
            found.append(event)
            continue
        place = plan.places(work, ready)
        kind = Columns if Columns.fits(event, place) else Warp
        found.append(kind(f"{name}_rows{len(found)}", event, place, table))
    rows = [_of_rows(f) for f in found if not isinstance(f, Product)]
    owned = [u for uses in rows for u in uses if u.tile]
    remaining = iter(rows)
    return [_of_product(plan, f, owned) if isinstance(f, Product) else Phase(f, next(remaining)) for f in found]


def _of_rows(rows: Columns | Warp) -> list[Use]:
    if isinstance(rows, Warp):
        return [_use(a, a.width, 0, True, w) for w, found in ((False, rows.reads), (True, rows.writes)) for a in found]
    return [_use(a, a.width, *_owned(a, loop), w) for loop in rows.loops
            for w, found in ((False, loop.reads), (True, loop.writes)) for a in found]  # fmt: skip


def _owned(a: Access, loop: Loop) -> tuple[int, bool]:
    """A thread of a loop touches its own column, but every thread reads a number that stands alone."""
    return (0 if a.single and loop.size != "1" else loop.width), False


def _use(a: Access | Product, width: int, tile: int, by_row: bool, write: bool, place: Place | None = None) -> Use:
    place = place or a.place  # type: ignore[union-attr]
    return Use(place.buffer.name, place.buffer.rows, place.column, width, tile, by_row, write)


def _of_product(plan: Plan, p: Product, owned: list[Use]) -> Phase:
    """Reads whole rows, and writes what it owns."""
    to = _use(p, p.matrix.n, p.matrix.n, False, True, p.to)
    readers = [u for u in owned if u.row(0)[0] == to.row(0)[0]
               and u.column < to.column + to.width and to.column < u.column + u.width]  # fmt: skip
    tiles = {u.tile for u in readers}
    if len(tiles) == 1:
        (tile,) = tiles
        if to.width % tile == 0 and all((u.column - to.column) % tile == 0 for u in readers):
            to = to._replace(tile=tile)
    uses = [_use(p, p.matrix.k, 0, False, False, p.operand), to]
    if p.add:
        uses.append(to._replace(write=False))
    if p.matrix.memory:
        uses.append(_use(p, p.matrix.k * p.matrix.n, 0, False, False, Place(plan.memory(p.matrix.index))))
    return Phase(p, uses, to.tile)


# -------------------------------------------------------------------------------------------- barriers


def needed(a: Phase, b: Phase, step_a: int, step_b: int) -> int:
    """The barrier that must stand somewhere between two phases of two steps."""
    level = NONE
    for u, v in pairs(a.uses, b.uses):
        apart = u.column >= v.column + v.width or v.column >= u.column + u.width
        if not (u.write or v.write) or apart or u.row(step_a) != v.row(step_b):
            continue
        level = max(level, BLOCK if u.alike(v) else GROUP)
    return level


_STEPS = 3  # that a dependence may reach: a carried cotangent is overwritten two steps later


def _missing(found: list[Phase], before: list[int]) -> tuple[int, int] | None:
    """The first phase before which a barrier is too weak, and how strong it should be."""
    n = len(found)
    for j in range(n * _STEPS):
        for i in range(j - 1, -1, -1):
            between = max(before[k % n] for k in range(i + 1, j + 1))
            level = needed(found[i % n], found[j % n], i // n, j // n)
            if level > between:
                return j % n, level
    return None


def barriers(found: list[Phase]) -> list[int]:
    """What stands before each phase of a step, the first of which follows the last of the step before. None of them can
    be weaker."""
    before = [NONE] * len(found)
    while missing := _missing(found, before):
        before[missing[0]] = missing[1]
    for i, level in enumerate(before):
        for weaker in range(level):
            tried = [*before[:i], weaker, *before[i + 1 :]]
            if _missing(found, tried) is None:
                before = tried
                break
    return before
