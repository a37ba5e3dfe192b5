"""Floor 6: one comparison: a gradient against values of the function, along a random direction.

For a direction v and a cotangent g, ``<g, (df/dx) v>`` is one number that both sides can compute: the gradient as
``<g df/dx, v>``, anyone else from values of f on the line x + h v. A random cotangent sees what a sum hides
(every softmax sums to 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import DtypeError, describe
from minigrad.testing.numeric import HALVINGS, TOLERANCE, ZERO, Line, flat, kinks, on_line, sides, slope

Arrays = list[np.ndarray]
MOST = 15  # so many subsets of inputs, and of outputs, are tried: all of them up to four


class Case(NamedTuple):
    """A function of arrays and its gradient, whoever computes them.

    values:  ``values(xs)``: the results, arrays
    vjp:     ``ys, pull = vjp(xs)``, where ``pull(gs)`` gives one gradient for each input; None among gs stands
             for a result that is not used
    xs:      where to check
    """

    values: Callable[[Sequence[Any]], Arrays]
    vjp: Callable[[Sequence[Any]], tuple[Arrays, Callable[[Sequence[Any]], Arrays]]]
    xs: Arrays


def inputs_of(where: str, given: Sequence[Any]) -> Arrays:
    """The inputs as float64; integers and other things without a derivative are refused."""
    found = []
    for i, x in enumerate(given):
        array = np.asarray(x)
        if array.dtype.kind in "iub" and hasattr(x, "dtype"):
            do = f"keep it out of the inputs, lambda *xs: f(*xs, indices), or pass x.astype('float64') as input {i}"
            raise DtypeError(describe(where, f"input {i} of dtype {array.dtype}", "floats", do))
        if array.dtype.kind not in "fiu":
            raise DtypeError(describe(where, f"input {i} of dtype {array.dtype}", "float32 or float64"))
        array = np.array(array, np.float64)
        if not np.isfinite(array).all():
            raise DtypeError(describe(where, f"NaN or Inf in input {i}", "finite values"))
        found.append(array)
    return found


def dtype_of(ys: Sequence[Any]) -> str:
    """The least exact dtype among the results decides on steps and tolerances."""
    return "float32" if any(np.asarray(y).dtype in (np.float16, np.float32) for y in ys) else "float64"


@dataclass
class Outcome:
    """What one comparison found; everything needed to look further."""

    case: Case
    xs: Arrays
    ys: Arrays
    pull: Callable[[Sequence[Any]], Arrays]
    gs: Arrays
    vs: Arrays
    grads: Arrays
    scale: float
    dtype: str
    line: Line
    terms: float
    analytic: float
    numerical: float
    error: float
    allowed: float
    moved: bool = False
    earlier: Arrays | None = None  # where the function was called first
    outside: str = ""  # at a kink: the interval of slopes that the gradient left

    @property
    def settled(self) -> bool:
        return bool(self.error <= self.allowed)

    @property
    def agrees(self) -> bool:
        return self.settled and bool(abs(self.analytic - self.numerical) <= self.allowed)

    @property
    def difference(self) -> float:
        return abs(self.analytic - self.numerical) / (max(self.terms, abs(self.numerical)) or 1.0)

    @property
    def resolution(self) -> float:
        return self.allowed / (max(self.terms, abs(self.numerical)) or 1.0)


def along(case: Case, xs: Arrays, vs: Arrays) -> Callable[[float], np.ndarray]:
    """All results as a function of the step along vs."""
    return lambda h: flat(case.values([x + h * v for x, v in zip(xs, vs)]))


def weights(gs: Sequence[Any], ys: Arrays) -> np.ndarray:
    """Cotangents one after the other, 0 for a result that is not used."""
    return flat([np.zeros(y.shape) if g is None else g for g, y in zip(gs, ys)])


def compared(
    line: Line, gs: np.ndarray, ys: np.ndarray, dtype: str, level: int, terms: np.ndarray
) -> tuple[float, float, float, float]:
    """Gradient, numerical derivative, its error and how far apart the two may be."""
    numerical, error = slope(line, gs)
    size = float(abs(terms).sum())
    rounding = 100 * np.finfo(dtype).eps * float(abs(gs * ys).sum()) / (line.steps[0] / 2 ** len(line.steps))
    if dtype == "float32":
        rounding /= 20  # so many roundings of one sign do not meet
    allowed = TOLERANCE[dtype][min(level, 2)] * max(size, abs(numerical)) + rounding + ZERO
    return float(terms.sum()), numerical, error, allowed


def subsets(count: int, rng: np.random.Generator) -> list[set[int]]:
    """Non-empty sets of the numbers below ``count``: all of them first, then single ones, then others, MOST at most."""
    every = range(1, 2**count) if 2**count <= MOST + 1 else {1 << int(i) for i in rng.permutation(count)[: MOST // 2]}
    bits = sorted(every, key=int.bit_count)
    bits += [int(b) for b in rng.integers(1, 2 ** min(count, 62), MOST - 1 - len(bits))] if count > 4 else []
    return [set(range(count))] + [{i for i in range(count) if b >> i & 1} for b in bits if b.bit_count() < count]


def numbered(what: str, some: set[int]) -> str:
    """In words: output 1, outputs 0, 2."""
    return f"{what}{'s' if len(some) > 1 else ''} {', '.join(map(str, sorted(some)))}"


def wrong_alone(at: Outcome) -> tuple[set[int], float, float, float] | None:
    """Results that have a wrong gradient when no other is used: their numbers, gradient, numerical and its error."""
    y = flat(at.ys)
    for some in subsets(len(at.gs), np.random.default_rng(0))[1:]:
        gs = [g if i in some else None for i, g in enumerate(at.gs)]
        terms = flat([a * v for a, v in zip(at.pull(gs), at.vs)])
        analytic, numerical, error, allowed = compared(at.line, weights(gs, at.ys), y, at.dtype, 1, terms)
        if error <= allowed and not abs(analytic - numerical) <= allowed:
            return some, analytic, numerical, error
    return None


def draw(rng: np.random.Generator, xs: Sequence[Any]) -> Arrays:
    """Normal numbers in the shapes of xs."""
    return [np.asarray(rng.standard_normal(np.shape(x))) for x in xs]


def direction(rng: np.random.Generator, xs: Arrays) -> Arrays:
    """A random direction, of length 1 at most."""
    vs = draw(rng, xs)
    norm = max(1.0, float(np.sqrt(sum((v * v).sum() for v in vs))))
    return [v / norm for v in vs]


SHORTER = (1.0, 1 / 30, 1 / 1000)
PLACES = 3


def examine(case: Case, rng: np.random.Generator, level: int, scale: float) -> Outcome:
    """Compare at the inputs; where values do not settle, with shorter steps, then at points nearby.

    A kink at the inputs themselves has no derivative, but slopes to both sides, and the gradient must lie between
    them in every direction. The comparison proper then takes place beside the kink.
    """
    gs: Arrays | None = None
    vs = None
    found: Outcome | None = None
    tied: Outcome | None = None
    for place in range(PLACES):
        xs = (
            [np.asarray(x + np.clip(d, -2, 2) * scale) for x, d in zip(case.xs, draw(rng, case.xs))]
            if place
            else case.xs
        )
        ys, pull = case.vjp(xs)
        gs, vs = gs or draw(rng, ys), vs or direction(rng, xs)
        grads = pull(gs)
        dtype = dtype_of(ys)
        g, y = flat(gs), flat(ys)
        terms = flat([a * v for a, v in zip(grads, vs)])
        for shorter in SHORTER[: 3 if dtype == "float64" else 1]:
            line = on_line(along(case, xs, vs), scale * shorter, HALVINGS[dtype])
            analytic, numerical, error, allowed = compared(line, g, y, dtype, level, terms)
            size = float(abs(terms).sum())
            found = Outcome(
                case, xs, ys, pull, gs, vs, grads, scale * shorter, dtype, line,
                size, analytic, numerical, error, allowed, moved=place > 0,
            )  # fmt: skip
            if found.agrees or not (np.isfinite(y).all() and np.isfinite(terms).all()):
                return tied or found
            if kinks(along(case, xs, vs), y, dtype).any():
                if level == 1 and place == 0:
                    found.outside = leaves_the_slopes(found, rng)
                    tied = found if found.outside else None
                break
            if found.settled:
                return found
    assert found is not None
    return found


def leaves_the_slopes(at: Outcome, rng: np.random.Generator, directions: int = 16) -> str:
    """At a kink: in which direction the gradient is no number between the slopes to both sides, if in any."""
    h = 1e-5 if at.dtype == "float64" else 1e-2
    y, g = flat(at.ys), flat(at.gs)
    for n in range(directions):
        vs = [np.ones(x.shape) for x in at.xs] if n == 0 else draw(rng, at.xs)
        right, left = (g * s for s in sides(along(at.case, at.xs, vs), y, h))
        low, high = np.minimum(right, left).sum(), np.maximum(right, left).sum()
        analytic = flat([a * v for a, v in zip(at.grads, vs)]).sum()
        slack = 1e-3 * (abs(right).sum() + abs(left).sum()) + 1e3 * np.finfo(at.dtype).eps * abs(g * y).sum() / h
        if not low - slack <= analytic <= high + slack:
            shift = "all inputs rise by the same" if n == 0 else "in a random direction"
            return f"where {shift}, slopes lie from {low:.6g} to {high:.6g}, the gradient says {analytic:.6g}"
    return ""
