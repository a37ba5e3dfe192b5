"""Floor 4: one kernel for memories (B, S, A) of every S, which differs from batch to batch.

The text of a kernel knows no sizes, and each number in its tables is a + b S. So a cell is traced for two sizes that
stand for S, which give a and b, and never again.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from minigrad.compiler.emit import CellKernel, Loop

Shapes = Sequence[tuple[int, ...]]


def memory_size(states: Shapes) -> int | None:
    """S, where all states (S, A), behind the batch, have one S, and there are such."""
    found = {shape[0] for shape in states if len(shape) == 2}
    return found.pop() if len(found) == 1 else None


def resized(states: Shapes, size: int, new: int) -> tuple[tuple[int, ...], ...]:
    """The shapes of states for another S: of the memories, and of other states that are as wide, such as a mask."""
    return tuple([(new, *shape[1:]) if shape[:1] == (size,) else shape for shape in states])


class Sized:
    """The kernels of a cell for every S, from those for two S. ValueError where they are not alike."""

    def __init__(self, sizes: tuple[int, int], first: CellKernel, second: CellKernel):
        self.sizes, self.first, self.second = sizes, first, second
        alike = first.source == second.source and first.plan.y_from == second.plan.y_from
        for a, b in ((first.forward, second.forward), (first.backward, second.backward)):
            alike = alike and np.array_equal(a.constants, b.constants) and (a.packs, a.scratch) == (b.packs, b.scratch)
            if not alike:
                raise ValueError("a kernel that depends on the size of its memory otherwise than by widths")
            b.use(a.constants)

    def __call__(self, size: int) -> CellKernel:
        """The kernel for S = ``size``."""
        found, other = copy.copy(self.first), self.second
        found.stand_in = self.sizes[0]
        found.forward = self._loop(found.forward, other.forward, size)
        found.backward = self._loop(found.backward, other.backward, size)
        found.y_widths = self._numbers(found.y_widths, other.y_widths, size).tolist()
        found.dx_widths = self._numbers(found.dx_widths, other.dx_widths, size).tolist()
        return found

    def _loop(self, a: Loop, b: Loop, size: int) -> Loop:
        widths = self._numbers([x.width for x in a.buffers], [x.width for x in b.buffers], size).tolist()
        buffers = [x._replace(width=width) for x, width in zip(a.buffers, widths)]
        work = int(self._numbers([a.work], [b.work], size)[0])
        return replace(a, fixed=self._numbers(a.fixed, b.fixed, size), buffers=buffers, work=work)

    def _numbers(self, a: Sequence[int] | np.ndarray, b: Sequence[int] | np.ndarray, size: int) -> np.ndarray:
        low, high = self.sizes
        first, second = np.array(a, np.int64), np.array(b, np.int64)
        return first + (second - first) // (high - low) * (size - low)
