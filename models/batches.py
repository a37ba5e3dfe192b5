"""Floor 7: batches of symbols: windows of parallel streams, and sentences of about one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def side_by_side(rows: Sequence[np.ndarray], dtype: Any, pad: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, ...) of several lengths as one array (longest, B, ...), with ``pad`` behind each, and lengths (B,).

    >>> found, lengths = side_by_side([np.array([4, 5, 6]), np.array([7])], np.int64, pad=-1)
    >>> found.T.tolist(), lengths.tolist()
    ([[4, 5, 6], [7, -1, -1]], [3, 1])
    """
    lengths = np.array([len(row) for row in rows])
    found = np.full((lengths.max(), len(rows), *rows[0].shape[1:]), pad, dtype)
    for b, row in enumerate(rows):
        found[: len(row), b] = row
    return found, lengths


class Windows:
    """The batches of truncated back-propagation: B contiguous streams, cut into windows of T symbols.

    A batch is a function of the number of the step alone, so a resumed run needs no other position. The state that
    the model carries from window to window fits, but for the streams that begin anew, marked in ``fresh`` (B,): all
    at the start of an epoch, and each, by turns, after ``reset`` windows (0: never). Without those, the model would
    see an empty state once an epoch, and write nonsense from one.

    With ``varied``, a seed, the windows differ in length, so that no symbol is always the last of one: T is normal
    with standard deviation 5 around ``window``, or, once in twenty, half of it, and at least 5 (Merity, Keskar and
    Socher 2017, "Regularizing and optimizing LSTM language models", section 5), all then stretched by one factor
    close to 1, so that a whole number of windows fills an epoch.

    >>> (inputs, targets), fresh = Windows(np.arange(9), batch=2, window=2, reset=0)(3)
    >>> inputs.T.tolist(), targets.T.tolist(), fresh.tolist()
    ([[2, 3], [6, 7]], [[3, 4], [7, 8]], [False, False])
    >>> windows = Windows(np.arange(1000), batch=1, window=70, reset=0, varied=1)
    >>> [len(windows(step)[0][0]) for step in range(windows.per_epoch)]
    [73, 35, 69, 66, 69, 70, 69, 76, 75, 57, 61, 69, 68, 71, 71]
    """

    def __init__(self, ids: np.ndarray, batch: int, window: int, reset: int, *, varied: int | None = None,
                 unit: str = "character"):  # fmt: skip
        if len(ids) <= batch * window:
            got, expected = f"{len(ids):,} {unit}s to train on", f"more than batch x window = {batch * window:,}"
            do = "use a longer text, or a smaller --batch or --window"
            raise UserError(describe("text", f"only {got}", expected, do))
        self.inputs, self.targets = columns(ids, batch)  # (L, B)
        self.window, self.varied = window, varied
        self.per_epoch = len(self.inputs) // window
        if varied is not None:
            mean = _lengths(np.random.default_rng(varied), window, 10_000).mean()
            self.per_epoch = max(1, round(len(self.inputs) / mean))
        self._epoch, self._edges = -1, np.arange(self.per_epoch + 1) * window
        self.reset = reset or self.per_epoch
        self.turn = np.arange(batch) * self.reset // batch if reset else np.zeros(batch, int)  # (B,)

    def __call__(self, step: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        epoch, k = divmod(step, self.per_epoch)
        if self.varied is not None and epoch != self._epoch:
            lengths = _lengths(np.random.default_rng([self.varied, epoch]), self.window, self.per_epoch)
            edges = np.append(0, lengths.cumsum())
            self._epoch, self._edges = epoch, np.round(edges * (len(self.inputs) / edges[-1])).astype(int)
        part = slice(*self._edges[k : k + 2])
        return (self.inputs[part], self.targets[part]), (k == 0) | ((k + self.turn) % self.reset == 0)


def _lengths(rng: np.random.Generator, window: int, n: int) -> np.ndarray:
    """Lengths (n,) of windows."""
    base = np.where(rng.random(n) < 0.95, window, window / 2)
    return np.maximum(5.0, rng.normal(base, 5.0))


def sentence_edges(ids: np.ndarray, end: int) -> np.ndarray:
    """Where sentences begin, and where the last one ends; each ``end`` is the last symbol of one.

    >>> sentence_edges(np.array([4, 5, 1, 1, 6]), end=1).tolist()
    [0, 3, 4, 5]
    """
    edges = np.append(0, np.flatnonzero(ids == end) + 1)
    return np.append(edges, len(ids)) if edges[-1] != len(ids) else edges


class Buckets:
    """Batches of B sentences of about one length, as ids (T, B), padded at the end, and lengths (B,).

    In every epoch each sentence comes once. Which stand together is drawn anew, among those of one length, and so is
    the order of the batches, by a generator of ``seed`` and the epoch: a batch is a function of the number of the step
    alone. The last places of one batch may be empty, with a length of 0. Sentences of more than ``longest`` symbols
    are read as several.

    ``padding`` is the share of all places that hold no symbol. Nothing is carried: ``fresh`` (B,) is true.

    >>> ids = np.array([4, 5, 1, 6, 1, 7, 8, 9, 1])
    >>> buckets = Buckets(ids, sentence_edges(ids, end=1), batch=2, seed=0)
    >>> (sentences, lengths), fresh = buckets(0)
    >>> sentences.T.tolist(), lengths.tolist(), buckets.per_epoch, round(buckets.padding, 2)
    ([[7, 8, 9, 1], [4, 5, 1, 0]], [4, 3], 2, 0.25)
    """

    def __init__(self, ids: np.ndarray, edges: np.ndarray, batch: int, seed: int, *, longest: int | None = None,
                 pad: int = 0):  # fmt: skip
        if longest is not None:
            pieces = np.maximum(-(-np.diff(edges) // longest), 1)  # of each sentence
            which = np.arange(pieces.sum()) - np.repeat(pieces.cumsum() - pieces, pieces)  # 0, 1, .. in each
            edges = np.append(np.repeat(edges[:-1], pieces) + which * longest, edges[-1])
        self.ids, self.starts, self.lengths = ids, edges[:-1], np.diff(edges)
        self.batch, self.seed, self.pad = batch, seed, pad
        if not self.lengths.sum():
            raise UserError(describe("sentences", "none, or only empty ones", "one symbol at least"))
        self.per_epoch = -(-len(self.lengths) // batch)
        places = np.append(np.sort(self.lengths)[::-1], 0)[::batch][: self.per_epoch]  # the longest of each batch
        self.padding = 1 - float(self.lengths.sum() / (places.sum() * batch))
        self._epoch, self.chosen = -1, np.arange(0)  # the sentences of the last batch

    def __call__(self, step: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        epoch, k = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = np.lexsort((rng.random(len(self.lengths)), -self.lengths))  # longest first
            self._epoch, self._order, self._turns = epoch, order, rng.permutation(self.per_epoch)
        first = self._turns[k] * self.batch
        self.chosen = chosen = self._order[first : first + self.batch]
        lengths = np.zeros(self.batch, int)
        lengths[: len(chosen)] = self.lengths[chosen]
        sentences = np.full((max(lengths.max(), 1), self.batch), self.pad, self.ids.dtype)  # (T, B)
        for b, i in enumerate(chosen):
            sentences[: lengths[b], b] = self.ids[self.starts[i] : self.starts[i] + lengths[b]]
        return (sentences, lengths), np.ones(self.batch, bool)


class Sentences(Buckets):
    """Batches of sentences for a language model, each by itself: inputs and targets (T, B).

    An input is what stands before its target: before the first of a sentence the end of another. Behind a sentence
    targets are -100, which count nothing.

    >>> ids = np.array([4, 5, 1, 6, 1, 7, 8, 9, 1])
    >>> (inputs, targets), fresh = Sentences(ids, end=1, batch=2, seed=0)(0)
    >>> inputs.T.tolist(), targets.T.tolist()
    ([[1, 7, 8, 9], [1, 4, 5, 1]], [[7, 8, 9, 1], [4, 5, 1, -100]])
    """

    def __init__(self, ids: np.ndarray, end: int, batch: int, seed: int, *, longest: int | None = None):
        super().__init__(ids, sentence_edges(ids, end), batch, seed, longest=longest)
        self.end = end

    def __call__(self, step: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        (sentences, lengths), fresh = super().__call__(step)
        first = self.starts[self.chosen] - 1  # of a piece of a long sentence: what stands before it
        inputs = np.roll(sentences, 1, axis=0)
        inputs[0] = self.end
        inputs[0, : len(first)] = np.where(first < 0, self.end, self.ids[first])
        targets = np.where(np.arange(len(sentences))[:, None] < lengths, sentences, -100)  # (T, B)
        return (inputs, targets), fresh
