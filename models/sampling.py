"""Floor 7: drawing class numbers from a fixed distribution, at a cost that does not grow with their count.

A sampler has ``classes``, ``draw(count, generator)`` (independent numbers) and ``probability(ids)``.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from minigrad.errors import UserError, describe


class Sampler(Protocol):
    """What ``Alias`` and ``LogUniform`` have in common; ``classes`` counts those of positive probability."""

    classes: int

    def draw(self, count: int, generator: np.random.Generator) -> np.ndarray: ...

    def probability(self, ids: Any) -> np.ndarray: ...


class Alias:
    """Any distribution: p(i) = w_i / sum w, in O(1) a draw (Walker 1977).

    The V bins have equal weight. Bin i holds i with ``keep[i]`` and else ``other[i]``: what is missing from a light
    class is filled from a heavy one, which turns light when more than its surplus is gone, and is filled by the next.
    Running sums of what is missing and of what is over say who fills whom (Huebschle-Schneider and Sanders 2019).

    >>> sampler = Alias([1.0, 0.0, 3.0])
    >>> sampler.probability([0, 1, 2]).tolist()
    [0.25, 0.0, 0.75]
    >>> np.bincount(sampler.draw(1000, np.random.default_rng(0))).tolist()
    [226, 0, 774]
    """

    def __init__(self, weights: Any):
        w = np.asarray(weights, np.float64)
        if w.ndim != 1 or not w.size or not np.isfinite(w).all() or w.min() < 0 or not 0 < w.sum() < np.inf:
            raise UserError(describe("weights", f"an array {w.shape} unfit to draw from", "finite, >= 0, one above 0"))
        self._p = w / w.sum()
        self.classes = int(np.count_nonzero(w))
        x = self._p * len(w)  # the mean is 1
        x[x.argmax()] = max(x.max(), 1.0)  # rounding may leave equal weights below it
        light, heavy = np.flatnonzero(x < 1), np.flatnonzero(x >= 1)
        missing = np.concatenate([[0.0], np.cumsum(1 - x[light])])  # (L + 1,): before each light class, and after all
        over = np.cumsum(x[heavy] - 1)
        filler = np.searchsorted(over, missing[:-1], side="right").clip(max=len(heavy) - 1)
        given = missing[np.searchsorted(missing[:-1], over, side="left")]  # when heavy class j has no more to give
        self.keep, self.other = x, np.arange(len(w))
        self.other[light] = heavy[filler]
        self.keep[heavy] = 1 + over - given
        self.keep[heavy[-1]] = 1  # but for rounding
        self.other[heavy[:-1]] = heavy[1:]

    def draw(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Independent class numbers (count,)."""
        i = generator.integers(len(self.keep), size=count)
        return np.where(generator.random(count) < self.keep[i], i, self.other[i])

    def probability(self, ids: Any) -> np.ndarray:
        return self._p[ids]


class LogUniform:
    """p(i) = log((i + 2) / (i + 1)) / log(V + 1): about Zipf's law where id 0 is the most frequent word; no table.

    The distribution of TensorFlow's ``log_uniform_candidate_sampler``.

    >>> LogUniform(3).probability([0, 1, 2]).round(3).tolist()
    [0.5, 0.292, 0.208]
    """

    def __init__(self, classes: int):
        if classes < 1:
            raise UserError(describe("classes", str(classes), "1 or more"))
        self.classes = classes

    def draw(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Independent class numbers (count,)."""
        found = np.exp(generator.random(count) * np.log(self.classes + 1)).astype(np.int64) - 1
        return found.clip(0, self.classes - 1)

    def probability(self, ids: Any) -> np.ndarray:
        i = np.asarray(ids, np.float64)
        return np.log1p(1 / (i + 1)) / np.log(self.classes + 1)


def distinct(sampler: Sampler, count: int, generator: np.random.Generator) -> tuple[np.ndarray, int]:
    """Different class numbers (count,), drawn until there are as many, and the number of draws it took.

    >>> distinct(LogUniform(5), 5, np.random.default_rng(0))[0].sort()
    """
    if count > sampler.classes:
        raise UserError(describe("distinct", f"{count} of {sampler.classes} classes", "no more than there are"))
    drawn, found = np.zeros(0, np.int64), np.zeros(0, np.int64)
    while len(found) < count:
        drawn = np.append(drawn, sampler.draw(max(len(drawn), 2 * count), generator))
        found = np.unique(drawn, return_index=True)[1]  # where each was drawn first
    found = np.sort(found)[:count]
    return drawn[found], int(found[-1]) + 1 if count else 0


def expected_count(sampler: Sampler, ids: Any, draws: int) -> np.ndarray:
    """1 - (1 - p)^draws: how likely a class is among so many draws."""
    return -np.expm1(draws * np.log1p(-sampler.probability(ids)))
