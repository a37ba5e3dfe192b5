"""Floor 4: one kernel for memories (B, S, A) of every S, which differs from batch to batch.

The text of a kernel knows no sizes, and each number in its tables is a + b S. So a cell is compiled for two sizes that
stand for S, which give a and b. Its graph for a new S is only compared with what they let expect.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from minigrad.compiler.emit import CellKernel, Loop
from minigrad.compiler.reader import Gradient
from minigrad.compiler.trace import CellGraph

Shapes = tuple[tuple[int, ...], ...]


def memory_size(states: Shapes) -> int | None:
    """S, where all states (S, A), behind the batch, have one S, and there are such."""
    found = {shape[0] for shape in states if len(shape) == 2}
    return found.pop() if len(found) == 1 else None


def patterns(states: Shapes, size: int) -> Iterator[Shapes]:
    """The shapes of states with -1 for S: in the memories, and in those of the other states that are as wide, such as
    a mask. Another that only happens to be as wide cannot be told from those, so each choice comes, the largest first.
    """
    equal = [i for i, shape in enumerate(states) if shape == (size,)]
    for count in range(len(equal), -1, -1):
        for chosen in combinations(equal, count):
            yield tuple([(-1, *shape[1:]) if len(shape) == 2 or i in chosen else shape
                         for i, shape in enumerate(states)])  # fmt: skip


def sized(pattern: Shapes, size: int) -> Shapes:
    """The shapes of a pattern for S = ``size``."""
    return tuple([(size, *shape[1:]) if shape[:1] == (-1,) else shape for shape in pattern])


class Sized:
    """The kernels of a cell for every S, from those for two S."""

    def __init__(self, sizes: tuple[int, int], first: CellKernel, second: CellKernel):
        self.sizes, self.first, self.second = sizes, first, second

    @classmethod
    def of(cls, sizes: tuple[int, int], first: CellKernel, second: CellKernel) -> Sized | None:
        """None where they differ otherwise than in widths."""
        alike = first.source == second.source and first.plan.y_from == second.plan.y_from
        for a, b in ((first.forward, second.forward), (first.backward, second.backward)):
            if (
                not alike
                or not np.array_equal(a.constants, b.constants)
                or (a.packs, a.scratch) != (b.packs, b.scratch)
            ):
                return None
            b.use(a.constants)
        return cls(sizes, first, second)

    def __call__(self, size: int) -> CellKernel:
        """The kernel for S = ``size``."""
        found, other = copy.copy(self.first), self.second
        found.stand_in = self.sizes[0]
        found.forward = self._loop(found.forward, other.forward, size)
        found.backward = self._loop(found.backward, other.backward, size)
        found.y_widths = self._numbers(found.y_widths, other.y_widths, size).tolist()
        found.dx_widths = self._numbers(found.dx_widths, other.dx_widths, size).tolist()
        return found

    def fits(self, cell: CellGraph, size: int) -> bool:
        """Whether the graph for S = ``size`` is what those for the two others let expect."""
        return self._alike(*(_facts(graph) for graph in (self.first.plan.cell, self.second.plan.cell, cell)), size)

    def _alike(self, a: Any, b: Any, found: Any, size: int) -> bool:
        if isinstance(a, (tuple, list)):
            return len(a) == len(b) == len(found) and all(self._alike(*parts, size) for parts in zip(a, b, found))
        if type(a) is int and type(b) is int:
            low, high = self.sizes
            return (found - a) * (high - low) == (b - a) * (size - low)
        return bool(a == b == found)

    def _loop(self, a: Loop, b: Loop, size: int) -> Loop:
        widths = self._numbers([x.width for x in a.buffers], [x.width for x in b.buffers], size).tolist()
        buffers = [x._replace(width=width) for x, width in zip(a.buffers, widths)]
        work = int(self._numbers([a.work], [b.work], size)[0])
        return replace(a, fixed=self._numbers(a.fixed, b.fixed, size), buffers=buffers, work=work)

    def _numbers(self, a: Sequence[int] | np.ndarray, b: Sequence[int] | np.ndarray, size: int) -> np.ndarray:
        low, high = self.sizes
        first, second = np.array(a, np.int64), np.array(b, np.int64)
        return first + (second - first) // (high - low) * (size - low)


def _facts(cell: CellGraph) -> list[Any]:
    """All of a graph that a kernel depends on, as lists to compare."""
    gradients = [*cell.d_params, *(Gradient(terms) for terms in cell.d_memories.values())]
    results = [*cell.states, *cell.ys, *cell.d_states, *cell.d_xs]
    return [
        cell.graph.entries(), cell.forward_size, [None if v is None else v.number for v in results],
        [None if d is None else [d.turned, [(t.a and t.a.number, t.g.number, t.start) for t in d.terms]]
         for d in gradients],
    ]  # fmt: skip
