"""Floor 7: batches of symbols: windows of parallel streams."""

from __future__ import annotations

import numpy as np

from minigrad.errors import UserError, describe


def columns(ids: np.ndarray, streams: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (L, B): B contiguous streams of equal length, the target of each symbol being the next.

    >>> inputs, targets = columns(np.arange(7), 2)
    >>> inputs.T.tolist(), targets.T.tolist()
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    n = (len(ids) - 1) // streams * streams
    return ids[:n].reshape(streams, -1).T, ids[1 : n + 1].reshape(streams, -1).T


class Windows:
    """The batches of truncated back-propagation: B contiguous streams, cut into windows of T symbols.

    A batch is a function of the number of the step alone, so a resumed run needs no other position. The state that
    the model carries from window to window fits, but for the streams that begin anew, marked in ``fresh`` (B,): all
    at the start of an epoch, and each, by turns, after ``reset`` windows (0: never). Without those, the model would
    see an empty state once an epoch, and write nonsense from one.

    >>> (inputs, targets), fresh = Windows(np.arange(9), batch=2, window=2, reset=0)(3)
    >>> inputs.T.tolist(), targets.T.tolist(), fresh.tolist()
    ([[2, 3], [6, 7]], [[3, 4], [7, 8]], [False, False])
    """

    def __init__(self, ids: np.ndarray, batch: int, window: int, reset: int):
        if len(ids) <= batch * window:
            got, expected = f"{len(ids):,} characters to train on", f"more than batch x window = {batch * window:,}"
            do = "use a longer text, or a smaller --batch or --window"
            raise UserError(describe("text", f"only {got}", expected, do))
        self.inputs, self.targets = columns(ids, batch)  # (L, B)
        self.window = window
        self.per_epoch = len(self.inputs) // window
        self.reset = reset or self.per_epoch
        self.turn = np.arange(batch) * self.reset // batch if reset else np.zeros(batch, int)  # (B,)

    def __call__(self, step: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        k = step % self.per_epoch
        part = slice(k * self.window, (k + 1) * self.window)
        return (self.inputs[part], self.targets[part]), (k == 0) | ((k + self.turn) % self.reset == 0)
