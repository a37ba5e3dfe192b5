"""Floor 6: compare reverse mode with numerical derivatives.

Along a random direction v and for a random cotangent g, ``<g, (df/dx) v>`` is one number that both sides can
compute: reverse mode as ``<g df/dx, v>``, numerically from values of f on the line x + h v. A random
cotangent sees what a sum hides (every softmax sums to 1). Orders above 1 check the derivative in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.engine import Tensor, no_grad, vjp
from minigrad.engine.tree import leaves


class GradientError(AssertionError):
    """Reverse mode and numerical differentiation disagree."""


# Relative to the terms of the number compared, for each order; the numerical side is the inexact one.
TOLERANCE = {1: 1e-8, 2: 1e-7}
_ZERO = 1e-12  # what cancels to less is rounding
_STEPS = 5


def _terms(a: Any, b: Any) -> np.ndarray:
    """The products of corresponding elements, whose sum is the inner product."""
    return np.concatenate([[0.0], *[np.ravel(np.asarray(x) * np.asarray(y)) for x, y in zip(a, b, strict=True)]])


def _slope(f: Callable[[float], float], h: float = 0.05) -> tuple[float, float]:
    """df(0) by central differences and Richardson extrapolation (Ridders 1982), and an estimate of its error."""
    table: list[list[float]] = []
    best, error = 0.0, np.inf
    for _ in range(_STEPS):
        row = [(f(h) - f(-h)) / (2 * h)]
        for j, above in enumerate(table[-1] if table else []):
            factor = 4.0 ** (j + 1)
            row.append((factor * row[j] - above) / (factor - 1))
            guess = max(abs(row[-1] - row[-2]), abs(row[-1] - above))
            if guess < error:
                best, error = row[-1], guess
        table.append(row)
        h /= 2
    return best, error


def check_grad(f: Callable, *inputs: Any, order: int = 2, seed: int = 0, scale: float = 0.05) -> None:
    """Raise GradientError if a derivative of f at ``inputs``, up to ``order``, is wrong or cannot be checked.

    Inputs are arrays or tensors, taken as float64. ``scale`` is the largest step; f must be smooth that far: at
    a kink the numerical derivative does not settle, and that is an error too, not a wider tolerance.

    >>> import minigrad as mg, numpy as np
    >>> mg.testing.check_grad(mg.tanh, np.array([0.3, -1.0]))
    """
    xs = [np.asarray(x, np.float64) for x in inputs]
    rng = np.random.default_rng(seed)

    def flat(*ts: Tensor) -> tuple:
        return tuple(y for y in leaves(f(*ts)) if y.dtype.kind == "f")

    _check(flat, xs, order, 1, rng, scale)


def _check(f: Callable, xs: list[np.ndarray], order: int, level: int, rng: np.random.Generator, scale: float) -> None:
    tensors = [Tensor(np.array(x)) for x in xs]
    ys, pull = vjp(f, *tensors)
    gs = [Tensor(np.asarray(rng.standard_normal(y.shape))) for y in ys]
    vs = [rng.standard_normal(x.shape) for x in xs]
    norm = max(1.0, np.sqrt(_terms(vs, vs).sum()))
    vs = [v / norm for v in vs]
    terms = _terms(pull(gs), vs)
    analytic = terms.sum()

    def along(h: float) -> float:
        with no_grad():
            return float(_terms(gs, f(*[Tensor(np.asarray(x + h * v)) for x, v in zip(xs, vs)])).sum())

    numerical, error = _slope(along, scale)
    rounding = 100 * np.finfo(float).eps * np.abs(_terms(gs, ys)).sum() / (scale / 2**_STEPS)
    allowed = TOLERANCE[min(level, 2)] * max(np.abs(terms).sum(), abs(numerical)) + rounding + _ZERO
    found = f"order {level} at inputs {', '.join(str(x.shape) for x in xs)}: reverse mode {analytic:.12g}, "
    if not error <= allowed:
        raise GradientError(
            f"{found}but the numerical derivative, {numerical:.12g}, does not settle (+- {error:.1g}): "
            f"there is a kink or a jump within {scale:g}, or f varies too fast; move the inputs or lower scale"
        )
    if not abs(analytic - numerical) <= allowed:
        ratio = analytic / numerical if numerical else np.inf
        raise GradientError(f"{found}numerical {numerical:.12g} +- {error:.1g}, ratio {ratio:.6g}")
    if level < order:
        count = len(xs)

        def derivative(*args: Tensor) -> tuple:
            return tuple(vjp(f, *args[:count])[1](args[count:]))

        _check(derivative, [*xs, *[np.asarray(g) for g in gs]], order, level + 1, rng, scale)
