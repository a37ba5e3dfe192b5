"""Floor 6: a gradient and the numerical one, entry by entry."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minigrad.testing.compare import Arrays, Outcome, dtype_of, steps, weights
from minigrad.testing.numeric import TOLERANCE, flat, on_line, slope

MOST = 300  # so many entries of a gradient are differentiated one by one
BLOCKS = 240  # so many blocks of a larger one are compared, to find the wrong entries by bisection
ENOUGH = 12  # so many wrong entries are located


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
        loose = 1.0 if self.got.dtype == np.float64 else 100.0
        allowed = loose * 1e-6 * abs(self.true) + 20 * self.error + loose * 1e-10 * self.peak
        return self.seen & (abs(self.got - self.true) > allowed)

    @property
    def telling(self) -> np.ndarray:
        """Entries whose ratio means something."""
        return self.seen & (abs(self.true) > 1e-3 * np.nanmax(abs(self.true), initial=0)) & (self.true != 0)


def _block(at: Outcome, xs: Arrays, i: int, v: np.ndarray) -> tuple[float, float]:
    """The derivative of <g, f> along a direction v of input i alone, and its error."""

    def moved(h: float) -> np.ndarray:
        return flat(at.case.values([*xs[:i], xs[i] + h * v, *xs[i + 1 :]]))

    count = 3 if at.coarse or dtype_of(at.ys) == "float32" else 4
    return slope(on_line(moved, at.scale, count), weights(at.gs, at.ys))


def one_by_one(at: Outcome, xs: Arrays, i: int, most: int = MOST) -> tuple[np.ndarray, np.ndarray]:
    """d<g, f>/dx_i at ``xs`` by values of f alone, for up to ``most`` entries, and its error. Those that are known to
    be wrong come first."""
    x = xs[i]
    true, error = np.full(x.size, np.nan), np.full(x.size, np.inf)
    first = at.suspects.get(i, np.zeros(0, int)) if at.grads[i].size == x.size else np.zeros(0, int)
    spread = np.linspace(0, x.size - 1, min(most, x.size)).round().astype(int)
    step = steps(at, i).ravel() if at.grads[i].size == x.size else np.ones(x.size)
    for j in np.unique(np.concatenate([first[:most], spread])) if x.size else []:
        if step[j]:
            one = np.zeros(x.shape)
            one.flat[j] = step[j]
            true[j], error[j] = (a / step[j] for a in _block(at, xs, i, one))
    return true.reshape(x.shape), error.reshape(x.shape)


def bisected(at: Outcome, i: int) -> tuple[np.ndarray, np.ndarray]:
    """The same for an input of many entries: blocks that agree along a direction uphill are right, the others are cut
    in two, so that a single wrong entry is found after log n comparisons."""
    got = np.ravel(at.grads[i]).astype(np.float64)
    true, error = (a.ravel() for a in one_by_one(at, at.xs, i, 40))
    rng, peak = np.random.default_rng(0), float(abs(got).max(initial=0))
    step = steps(at, i).ravel()
    located, blocks = 0, [(0, got.size)]
    for _ in range(BLOCKS):
        if not blocks or located >= ENOUGH:
            break
        start, stop = blocks.pop()
        v = np.zeros(got.size)
        v[start:stop] = np.copysign(rng.uniform(0.5, 1.5, stop - start) * step[start:stop], got[start:stop])
        length = max(1.0, float(np.sqrt(v @ v))) if at.dtype == "float64" else 1.0
        n, off = _block(at, at.xs, i, (v / length).reshape(at.xs[i].shape))
        n, off, terms = n * length, off * length, got[start:stop] * v[start:stop]
        allowed = TOLERANCE[at.dtype][1] * abs(terms).sum() + 20 * off + 1e-8 * peak
        fresh = np.isnan(true[start:stop])
        if abs(terms.sum() - n) <= allowed:
            if allowed > 0.01 * abs(terms).sum() and terms.any():
                continue  # too inexact to call it right
            true[start:stop][fresh] = got[start:stop][fresh]
            error[start:stop][fresh] = allowed / 20
        elif stop - start == 1 and v[start]:
            true[start], error[start] = n / v[start], off / abs(v[start])
            located += 1
        elif stop - start > 1:
            middle = (start + stop) // 2
            blocks += [(middle, stop), (start, middle)]
    return true.reshape(at.grads[i].shape), error.reshape(at.grads[i].shape)


def entries(at: Outcome) -> list[Entries]:
    most = max(MOST // max(len(at.xs), 1), 16) if sum(x.size for x in at.xs) > MOST else MOST
    found = []
    for i, a in enumerate(at.grads):
        found.append(Entries(a, *(one_by_one(at, at.xs, i, most) if a.size <= most else bisected(at, i))))
        at.suspects[i] = np.flatnonzero(found[-1].wrong)
    return found
