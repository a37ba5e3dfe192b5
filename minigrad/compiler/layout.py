"""Floor 4: which row of memory holds which step of which member of the batch.

Without lengths, rows lie as the user's (T, B, n): row t B + b; a reversed scan only walks them from the end, so nothing
is copied. Members with ``lengths`` are sorted by length and packed: row off[s] + b is step s of the b-th longest, so a
step works on the first members only and what lies behind the end of a sequence is neither read nor written.
A state in time has the initial rows before (or, walked from the end, behind) those of the steps.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray


class Layout:
    """``table`` (steps, 4): the first row of each step, of the state before it and after it, and its members."""

    reverse = False

    def __init__(self, table: Array, batch: int, rows: int):
        self.table, self.steps, self.batch, self.rows = table, len(table), batch, rows
        self.address = table.ctypes.data
        self._shares: dict[int, tuple[Array, int]] = {}

    # rows of a state in time: the initial ones, those before and after each row, and the last of each member
    initial: Any
    before: Any
    after: Any
    last: Any

    def shares(self, workers: int) -> int:
        """Where the first member of each worker stands; all have about the same number of rows."""
        found = self._shares.get(workers)
        if found is None:
            cuts = self._cuts(workers)
            found = self._shares[workers] = cuts, cuts.ctypes.data
        return found[1]

    def _cuts(self, workers: int) -> Array:
        return np.array([self.batch * w // workers for w in range(workers + 1)], np.int64)

    def pack(self, x: Array) -> Array:
        """(T, B, n) to (rows, n)."""
        raise NotImplementedError

    def unpack(self, rows: Array) -> Array:
        """(rows, n) to (T, B, n), 0 behind the ends."""
        raise NotImplementedError

    def room(self, width: int, dtype: np.dtype) -> Array:
        """Memory for rows, which ``unpack`` takes."""
        return np.empty((self.rows, width), dtype)

    def sort(self, state: Array) -> Array:
        return state

    def unsort(self, state: Array) -> Array:
        return state

    def segment(self, start: int, stop: int) -> tuple[Layout, slice]:
        """The steps start .. stop of the loop, and their rows."""
        raise NotImplementedError


class Whole(Layout):
    """Every member has all steps."""

    def __init__(self, steps: int, batch: int, reverse: bool):
        s = np.arange(steps)
        t = s[::-1] if reverse else s
        before, after = (t + 1, t) if reverse else (t, t + 1)
        super().__init__(np.stack([t * batch, before * batch, after * batch, np.full(steps, batch)], 1), batch,
                         steps * batch)  # fmt: skip
        self.reverse = reverse
        head, tail = slice(0, batch), slice(self.rows, None)
        front, back = slice(0, self.rows), slice(batch, None)
        self.initial, self.last = (tail, head) if reverse else (head, tail)
        self.before, self.after = (back, front) if reverse else (front, back)

    @property
    def ends(self) -> Array:
        return np.full(self.batch, self.steps)

    @property
    def members(self) -> Array:
        return np.tile(np.arange(self.batch), self.steps)

    def pack(self, x: Array) -> Array:
        return x.reshape(self.rows, x.shape[2])

    def unpack(self, rows: Array) -> Array:
        return rows if rows.ndim == 3 else rows.reshape(self.steps, self.batch, rows.shape[1])

    def room(self, width: int, dtype: np.dtype) -> Array:
        return np.empty((self.steps, self.batch, width), dtype)

    def segment(self, start: int, stop: int) -> tuple[Layout, slice]:
        a, b = (self.steps - stop, self.steps - start) if self.reverse else (start, stop)
        return whole(stop - start, self.batch, self.reverse), slice(a * self.batch, b * self.batch)


whole = lru_cache(maxsize=256)(Whole)


class Ragged(Layout):
    """``lengths`` (B,), in any order."""

    def __init__(self, steps: int, lengths: Array, reverse: bool):
        batch = len(lengths)
        self.order = np.argsort(-lengths, kind="stable")
        self.ends = lengths[self.order]
        active = np.arange(steps)[:, None] < self.ends  # (T, B)
        count = active.sum(1)
        self.off = np.concatenate([[0], np.cumsum(count)])
        before = np.concatenate([[0], batch + self.off[: max(steps - 1, 0)]])[:steps]
        super().__init__(np.stack([self.off[:-1], before, batch + self.off[:-1], count], 1), batch, int(self.off[-1]))
        step, self.members = np.nonzero(active)
        time = self.ends[self.members] - 1 - step if reverse else step
        self.index = time, self.order[self.members]
        self.initial, self.after = slice(0, batch), slice(batch, None)
        self.before = self.table[step, 1] + self.members
        self.last = np.where(self.ends > 0, batch + self.off[self.ends - 1] + np.arange(batch), np.arange(batch))

    def _cuts(self, workers: int) -> Array:
        done = np.concatenate([[0], np.cumsum(self.ends)])
        cuts = np.searchsorted(done, [done[-1] * w / workers for w in range(workers + 1)]).astype(np.int64)
        cuts[0], cuts[-1] = 0, self.batch
        return cuts

    def pack(self, x: Array) -> Array:
        return x[self.index]

    def unpack(self, rows: Array) -> Array:
        out = np.zeros((self.steps, self.batch, rows.shape[1]), rows.dtype)
        out[self.index] = rows
        return out

    def sort(self, state: Array) -> Array:
        return state[self.order]

    def unsort(self, state: Array) -> Array:
        out = np.empty_like(state)
        out[self.order] = state
        return out

    def segment(self, start: int, stop: int) -> tuple[Layout, slice]:
        part = Ragged(stop - start, np.clip(self.ends - start, 0, stop - start), False)
        return part, slice(int(self.off[start]), int(self.off[stop]))


def layout(steps: int, batch: int, lengths: Array | None, reverse: bool) -> Layout:
    return whole(steps, batch, reverse) if lengths is None else Ragged(steps, lengths, reverse)
