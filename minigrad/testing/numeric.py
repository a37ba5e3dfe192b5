"""Floor 6: derivatives from values alone: central differences extrapolated to a step of zero, and the complex step.

(f(x + h v) - f(x - h v)) / 2h differs from the derivative by a h^2 + b h^4 + ...; halving h and combining the
results cancels one power after the other (Richardson). How much the last combination changed the result is the
estimate of its error (Ridders 1982).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

# For each dtype: relative tolerance of a derivative of order 1, of higher ones, and how often the step is halved.
# The numerical side is the inexact one. These are all the tolerances there are; no option widens them.
TOLERANCE = {"float64": {1: 1e-8, 2: 1e-7}, "float32": {1: 1e-4, 2: 1e-2}}
HALVINGS = {"float64": 5, "float32": 3}
EXACT = 1e-9  # relative tolerance where the complex step makes the numerical side exact to rounding


class Line(NamedTuple):
    """Values of a function of many results on a line: f(x + h v) and f(x - h v), for each step h."""

    steps: list[float]
    plus: list[np.ndarray]
    minus: list[np.ndarray]


def flat(arrays: Sequence[Any]) -> np.ndarray:
    """All elements one after the other, in float64."""
    return np.concatenate([np.zeros(0), *[np.ravel(np.asarray(a, np.float64)) for a in arrays]])


def on_line(f: Callable[[float], np.ndarray], h: float, count: int) -> Line:
    """f at +-h, +-h/2, ..., ``count`` steps."""
    steps = [h / 2**k for k in range(count)]
    with np.errstate(all="ignore"):
        return Line(steps, [f(s) for s in steps], [f(-s) for s in steps])


def extrapolate(differences: Sequence[float], noise: float = 0.0) -> tuple[float, float, int]:
    """The limit of central differences whose step is halved each time, an estimate of its error, and the row it came
    from. ``noise``: of the first difference; rounding grows as the step is halved, which counts as error.

    >>> import math
    >>> d, error, _ = extrapolate([(math.exp(h) - math.exp(-h)) / (2 * h) for h in (0.4, 0.2, 0.1, 0.05)])
    >>> abs(d - 1) < error < 1e-7
    True
    """
    best, error, at = 0.0, np.inf, 0
    above: list[float] = []
    for k, value in enumerate(differences):
        row = [float(value)]
        for j, before in enumerate(above):
            factor = 4.0 ** (j + 1)
            row.append((factor * row[j] - before) / (factor - 1))
            guess = max(abs(row[-1] - row[-2]), abs(row[-1] - before)) + noise * 2**k
            if guess < error:
                best, error, at = row[-1], guess, k
        above = row
    return best, error, at


def differences(line: Line, weights: np.ndarray) -> list[float]:
    """Central differences of ``<weights, f>``, a step each."""
    with np.errstate(all="ignore"):
        # no product of vectors: threads of BLAS wait for each other on a busy machine
        return [float(((p - m) * weights).sum()) / (2 * h) for h, p, m in zip(line.steps, line.plus, line.minus)]


def slope(line: Line, weights: np.ndarray) -> tuple[float, float]:
    """The derivative along the line of ``<weights, f>``, and an estimate of its error."""
    return extrapolate(differences(line, weights))[:2]


def noise(f: Callable[[float], np.ndarray], weights: np.ndarray, h: float) -> float:
    """By how much rounding scatters ``<weights, f>``: from seventh differences of neighbours, where what is smooth is
    gone (Hamming 1973, More and Wild 2011). The quieter of two places: the other may have a kink.

    >>> 1e-9 < noise(lambda h: np.round([np.exp(h)], 8), np.ones(1), 0.05) < 1e-8
    True
    """
    with np.errstate(all="ignore"):
        places = [np.array([f((at + k / 50) * h) * weights for k in range(10)]) for at in (0.4, -0.7)]
        found = [float(np.sqrt((np.diff(values.sum(1), 7) ** 2).mean() / 3432)) for values in places]
    return min((x for x in found if np.isfinite(x)), default=np.inf)


def sides(f: Callable[[float], np.ndarray], middle: np.ndarray, h: float) -> tuple[np.ndarray, np.ndarray]:
    """The slopes of every result to the right and to the left."""
    with np.errstate(all="ignore"):
        return (f(h) - middle) / h, (middle - f(-h)) / h


def kinks(f: Callable[[float], np.ndarray], middle: np.ndarray, dtype: str = "float64") -> np.ndarray:
    """Which results have a kink or a jump at the point itself.

    The slopes to both sides differ by f'' h where f is smooth, ten times less for a step ten times shorter; at a
    kink the difference stays, at a jump it grows.

    >>> kinks(lambda h: np.array([abs(h), np.exp(h)]), np.array([0.0, 1.0]))
    array([ True, False])
    """
    h = {"float64": 1e-5, "float32": 1e-2}[dtype]
    gaps = [abs(np.subtract(*sides(f, middle, step))) for step in (h, h / 10)]
    rounding = 200 * np.finfo(dtype).eps * (1e-3 + abs(middle)) / (h / 10)
    return (gaps[1] > 0.5 * gaps[0]) & (gaps[1] > rounding)


def complex_step(f: Callable[[Sequence[Any]], Sequence[Any]], xs: Sequence[Any], vs: Sequence[Any]) -> Any:
    """The derivative of f along vs as the imaginary part of f(x + i h v) / h, without any subtraction.

    None where f does not take complex arrays. A function that drops the imaginary part (``abs``) gives a wrong
    result, so compare with ``slope`` before it is trusted.

    >>> complex_step(lambda xs: [np.exp(xs[0])], [np.zeros(2)], [np.ones(2)])
    array([1., 1.])
    """
    h = 1e-30
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error")
            ys = [np.asarray(y) for y in f([x + 1j * h * v for x, v in zip(xs, vs)])]
    except Exception:  # whatever foreign code raises, it does not take complex arrays
        return None
    if not all(y.dtype.kind == "c" for y in ys):
        return None
    found = flat([y.imag / h for y in ys])
    return found if np.isfinite(found).all() else None
