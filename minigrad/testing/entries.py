"""Floor 6: a gradient and the numerical one, entry by entry."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minigrad.testing.compare import Arrays, Outcome, weights
from minigrad.testing.numeric import flat, on_line, slope

MOST = 300  # so many entries of a gradient are differentiated one by one


class Entries(NamedTuple):
    """One input: its gradient, the numerical one entry by entry (NaN: not looked at), and the error of that."""

    got: np.ndarray
    true: np.ndarray
    error: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        return np.isfinite(self.true)

    @property
    def peak(self) -> float:
        return float(np.nanmax(np.maximum(abs(self.true), abs(self.got)), initial=0))

    @property
    def wrong(self) -> np.ndarray:
        allowed = 1e-6 * abs(self.true) + 20 * self.error + 1e-8 * self.peak
        return self.seen & (abs(self.got - self.true) > allowed)

    @property
    def telling(self) -> np.ndarray:
        """Entries whose ratio means something."""
        return self.seen & (abs(self.true) > 1e-3 * np.nanmax(abs(self.true), initial=0)) & (self.true != 0)


def one_by_one(at: Outcome, xs: Arrays, i: int, most: int = MOST) -> tuple[np.ndarray, np.ndarray]:
    """d<g, f>/dx_i at ``xs`` by values of f alone, for up to ``most`` entries, and its error."""
    x, g = xs[i], weights(at.gs, at.ys)
    true, error = np.full(x.size, np.nan), np.full(x.size, np.inf)
    count = 4 if at.dtype == "float64" else 2

    def moved(j: int, h: float) -> np.ndarray:
        other = np.array(x)
        other.flat[j] += h
        return flat(at.case.values([*xs[:i], other, *xs[i + 1 :]]))

    for j in np.unique(np.linspace(0, x.size - 1, min(most, x.size)).round().astype(int)) if x.size else []:
        true[j], error[j] = slope(on_line(lambda h: moved(j, h), at.scale, count), g)
    return true.reshape(x.shape), error.reshape(x.shape)


def entries(at: Outcome) -> list[Entries]:
    most = max(MOST // max(len(at.xs), 1), 16) if sum(x.size for x in at.xs) > MOST else MOST
    return [Entries(a, *one_by_one(at, at.xs, i, most)) for i, a in enumerate(at.grads)]
