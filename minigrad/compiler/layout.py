"""Floor 4: which row of memory holds which step of which member of the batch.

Without lengths, rows lie as the user's (T, B, n): row t B + b; a reversed scan only walks them from the end, so nothing
is copied. Members with ``lengths`` are sorted by length and packed: row off[s] + b is step s of the b-th longest, so a
step works on the first members only and what lies behind the end of a sequence is neither read nor written.
A state in time has the initial rows before (or, walked from the end, behind) those of the steps.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from minigrad.compiler.arrays import HOST, Array, Host


class Layout:
    """``table`` (steps, 4): the first row of each step, of the state before it and after it, and its members. Which
    ``arrays`` are laid out so, NumPy's or those of a device, decides who moves rows."""

    reverse = False

    def __init__(self, table: np.ndarray, batch: int, rows: int, arrays: Host):
        self.table, self.steps, self.batch, self.rows, self.arrays = table, len(table), batch, rows, arrays
        self.address = table.ctypes.data
        self._shares: dict[int, tuple[np.ndarray, int]] = {}

    # rows of a state in time: the initial ones, those before and after each row, and the last of each member; the
    # member of each row; and where the last step of each member reads what is carried backward
    initial: Any
    before: Any
    after: Any
    last: Any
    members: Any
    entry: Any

    @cached_property
    def on_device(self) -> Array:
        """``table``, one step behind another, among the arrays."""
        return self.arrays.table(self.table.ravel())

    def shares(self, workers: int) -> int:
        """Where the first member of each worker stands; all have about the same number of rows."""
        found = self._shares.get(workers)
        if found is None:
            cuts = self._cuts(workers)
            found = self._shares[workers] = cuts, cuts.ctypes.data
        return found[1]

    def _cuts(self, workers: int) -> np.ndarray:
        return np.array([self.batch * w // workers for w in range(workers + 1)], np.int64)

    def in_time(self, first: Array) -> Array:
        """Memory for a state in time, with its initial rows."""
        state = self.arrays.empty((self.batch + self.rows, first.shape[1]), first.dtype)
        self.arrays.put(state, self.initial, first)
        return state

    def pack(self, x: Array) -> Array:
        """(T, B, n) to (rows, n)."""
        raise NotImplementedError

    def unpack(self, rows: Array) -> Array:
        """(rows, n) to (T, B, n), 0 behind the ends."""
        raise NotImplementedError

    def room(self, width: int, dtype: np.dtype) -> Array:
        """Memory for rows, which ``unpack`` takes."""
        return self.arrays.empty((self.rows, width), dtype)

    def by_step(self, rows: Array) -> Array:
        """(rows, n) to (T B, n), member b of step s in row s B + b, 0 behind the ends."""
        return rows

    def sort(self, state: Array) -> Array:
        return state

    def unsort(self, state: Array) -> Array:
        return state

    def segment(self, start: int, stop: int) -> tuple[Layout, slice]:
        """The steps start .. stop of the loop, and their rows."""
        raise NotImplementedError


class Whole(Layout):
    """Every member has all steps."""

    def __init__(self, steps: int, batch: int, reverse: bool, arrays: Host):
        s = np.arange(steps)
        t = s[::-1] if reverse else s
        before, after = (t + 1, t) if reverse else (t, t + 1)
        super().__init__(np.stack([t * batch, before * batch, after * batch, np.full(steps, batch)], 1), batch,
                         steps * batch, arrays)  # fmt: skip
        self.reverse = reverse
        head, tail = slice(0, batch), slice(self.rows, None)
        front, back = slice(0, self.rows), slice(batch, None)
        self.initial, self.last = (tail, head) if reverse else (head, tail)
        self.before, self.after = (back, front) if reverse else (front, back)
        self.entry = slice(steps % 2 * batch, (steps % 2 + 1) * batch)

    @cached_property
    def members(self) -> Array:  # type: ignore[override]
        return self.arrays.table(np.tile(np.arange(self.batch), self.steps))

    def pack(self, x: Array) -> Array:
        return x.reshape((self.rows, x.shape[2]))

    def unpack(self, rows: Array) -> Array:
        return rows if rows.ndim == 3 else rows.reshape((self.steps, self.batch, rows.shape[1]))

    def room(self, width: int, dtype: np.dtype) -> Array:
        return self.arrays.empty((self.steps, self.batch, width), dtype)

    def segment(self, start: int, stop: int) -> tuple[Layout, slice]:
        a, b = (self.steps - stop, self.steps - start) if self.reverse else (start, stop)
        return whole(stop - start, self.batch, self.reverse, self.arrays), slice(a * self.batch, b * self.batch)


whole = lru_cache(maxsize=256)(Whole)


class Ragged(Layout):
    """``lengths`` (B,), in any order."""

    def __init__(self, steps: int, lengths: np.ndarray, reverse: bool, arrays: Host):
        batch, one = len(lengths), np.arange(len(lengths))
        order = np.argsort(-lengths, kind="stable")
        self.ends = lengths[order]
        active = np.arange(steps)[:, None] < self.ends  # (T, B)
        count = active.sum(1)
        self.off = np.concatenate([[0], np.cumsum(count)])
        before = np.concatenate([[0], batch + self.off[: max(steps - 1, 0)]])[:steps]
        super().__init__(np.stack([self.off[:-1], before, batch + self.off[:-1], count], 1), batch, int(self.off[-1]),
                         arrays)  # fmt: skip
        step, members = np.nonzero(active)
        time = self.ends[members] - 1 - step if reverse else step
        self.order, self.place = arrays.table(order), arrays.table(np.argsort(order))
        self.index = arrays.table(time * batch + order[members])
        self.initial, self.after = slice(0, batch), slice(batch, None)
        self.members, self.before = arrays.table(members), arrays.table(self.table[step, 1] + members)
        self.last = arrays.table(np.where(self.ends > 0, batch + self.off[self.ends - 1] + one, one))
        self.entry = arrays.table(self.ends % 2 * batch + one)
        self._by_step = arrays.table(step * batch + members)

    def _cuts(self, workers: int) -> np.ndarray:
        done = np.concatenate([[0], np.cumsum(self.ends)])
        cuts = np.searchsorted(done, [done[-1] * w / workers for w in range(workers + 1)]).astype(np.int64)
        cuts[0], cuts[-1] = 0, self.batch
        return cuts

    def pack(self, x: Array) -> Array:
        return self.arrays.take(x.reshape((self.steps * self.batch, x.shape[2])), self.index)

    def unpack(self, rows: Array) -> Array:
        return self._apart(rows, self.index).reshape((self.steps, self.batch, rows.shape[1]))

    def by_step(self, rows: Array) -> Array:
        return self._apart(rows, self._by_step)

    def _apart(self, rows: Array, places: Array) -> Array:
        out = self.arrays.zeros((self.steps * self.batch, rows.shape[1]), rows.dtype)
        self.arrays.put(out, places, rows)
        return out

    def sort(self, state: Array) -> Array:
        return self.arrays.take(state, self.order)

    def unsort(self, state: Array) -> Array:
        return self.arrays.take(state, self.place)

    def segment(self, start: int, stop: int) -> tuple[Layout, slice]:
        part = Ragged(stop - start, np.clip(self.ends - start, 0, stop - start), False, self.arrays)
        return part, slice(int(self.off[start]), int(self.off[stop]))


@lru_cache(maxsize=16)
def _ragged(steps: int, lengths: bytes, reverse: bool, arrays: Host) -> Ragged:
    return Ragged(steps, np.frombuffer(lengths, np.int64), reverse, arrays)


def layout(steps: int, batch: int, lengths: np.ndarray | None, reverse: bool, arrays: Host = HOST) -> Layout:
    if lengths is None:
        return whole(steps, batch, reverse, arrays)
    return _ragged(steps, lengths.tobytes(), reverse, arrays)
