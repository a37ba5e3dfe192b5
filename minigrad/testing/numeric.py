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
TOLERANCE = {"float64": {1: 1e-8, 2: 1e-7}, "float32": {1: 1e-3, 2: 1e-2}}
HALVINGS = {"float64": 5, "float32": 3}
ZERO = 1e-12  # what cancels to less is rounding


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


def extrapolate(differences: Sequence[float]) -> tuple[float, float]:
    """The limit of central differences whose step is halved each time, and an estimate of its error.

    >>> import math
    >>> d, error = extrapolate([(math.exp(h) - math.exp(-h)) / (2 * h) for h in (0.4, 0.2, 0.1, 0.05)])
    >>> abs(d - 1) < error < 1e-7
    True
    """
    best, error = 0.0, np.inf
    above: list[float] = []
    for value in differences:
        row = [float(value)]
        for j, before in enumerate(above):
            factor = 4.0 ** (j + 1)
            row.append((factor * row[j] - before) / (factor - 1))
            guess = max(abs(row[-1] - row[-2]), abs(row[-1] - before))
            if guess < error:
                best, error = row[-1], guess
        above = row
    return best, error


def slope(line: Line, weights: np.ndarray) -> tuple[float, float]:
    """The derivative along the line of ``<weights, f>``, and an estimate of its error."""
    with np.errstate(all="ignore"):
        return extrapolate(
            [(p @ weights - m @ weights) / (2 * h) for h, p, m in zip(line.steps, line.plus, line.minus)]
        )


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
