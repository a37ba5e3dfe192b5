"""Floor 6: what a check says: a verdict with its confidence, or an error that names the likely cause."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np


class GradientError(AssertionError):
    """A gradient is wrong, or cannot be judged.

    cause:  the likely cause in a word or two, as the message has it: "factor", "sign", "transposition", ...

    >>> from minigrad.testing import GradientError, check_vjp
    >>> try:
    ...     check_vjp(lambda x: x * x, lambda g, x: g * x, [1.0, 2.0])
    ... except GradientError as error:
    ...     error.cause
    'factor'
    """

    __module__ = "minigrad.testing"

    def __init__(self, message: str, cause: str = ""):
        super().__init__(message)
        self.cause = cause


CAUSES = {
    "factor": "a constant factor",
    "sign": "the sign",
    "transposition": "a matrix is transposed, or elements are permuted",
    "exchanged": "the gradients of two inputs are exchanged",
    "unbroadcast": "the sum over what broadcasting repeated is missing or incomplete",
    "axis": "a sum runs over the wrong axis",
    "zero": "no gradient arrives",
    "term": "a term is missing or wrong, such as one of a product rule, or what is carried back from the next step",
    "cotangent": "the cotangent is not used linearly",
    "stale": "a value that was saved in an earlier call is used",
    "ties": "wrong only at a tie or a kink",
    "size one": "wrong only where an axis has size one",
    "strided": "wrong only where memory is strided",
    "edge": "wrong only in some positions",
    "mutation": "an input is written to",
    "aliasing": "arrays share memory",
    "second derivative": "the gradient is right, its own derivative is wrong",
    "unused output": "wrong only where an output is not used",
    "input alone": "wrong only where some inputs need no gradient",
    "tape": "the tape is cut: detached, or computed beside it",
    "random": "the function answers differently when called again",
    "not finite": "NaN or Inf",
    "structure": "not the number or the shapes of gradients",
    "cannot be judged": "the results are too large, or too coarse, beside their derivatives",
    "kink": "a kink, a jump, or too fast a change near the inputs",
}


class Verdict(NamedTuple):
    """What a passed check has seen.

    order:       the highest derivative compared
    directions:  how many inner products were compared
    difference:  the largest relative difference between gradient and numerical derivative
    resolution:  the largest relative error that could have gone unseen in one of these comparisons
    moved:       whether a kink made the check go to a point nearby
    note:        what else limits the check: float32, an input too small to be seen
    """

    order: int
    directions: int
    difference: float
    resolution: float
    moved: bool = False
    note: str = ""

    def __repr__(self) -> str:
        where = ", at a point nearby because of a kink" if self.moved else ""
        orders = "order 1" if self.order == 1 else f"orders 1 to {self.order}"
        return (
            f"right: {orders}, {self.directions} comparisons, relative difference at most {self.difference:.0e}; "
            f"errors above {self.resolution:.0e} would be seen{where}{self.note}"
        )


def note(coarse: bool, dtype: str, unseen: Iterable[int]) -> str:
    """What the verdict adds about exactness."""
    who = ", ".join(map(str, unseen))
    what = "; values are computed in float32" if coarse else "; in float32" if dtype == "float32" else ""
    return what + (f"; input {who} is too small beside the others to be seen" if who else "")


def number(x: float) -> str:
    return f"{x:.6g}"


def shapes(xs: Iterable[Any]) -> str:
    return ", ".join(str(x.shape) for x in xs)


def times(a: float, b: float) -> str:
    """The ratio in words, with the digits that matter where it is near 1.

    >>> times(2.64072, 2.64065), times(-1, 0.5)
    ('1 + 2.65e-05', '-2')
    """
    r = ratio(a, b)
    return f"1 {'+' if r > 1 else '-'} {abs(r - 1):.3g}" if 0 < abs(r - 1) < 1e-4 else f"{r + 0.0:.6g}"


def ratio(a: float, b: float) -> float:
    return a / b if b else np.inf


def small(xs: Sequence[np.ndarray], most: int = 12) -> list[str]:
    """The values of the inputs, where they are few."""
    lines = []
    for i, x in enumerate(xs):
        if 0 < x.size <= most:
            text = np.array2string(np.asarray(x), precision=4, separator=", ", floatmode="maxprec")
            lines.append(f"input {i} = " + text.replace("\n", "\n" + " " * 14))
    return lines


def fail(headline: str, cause: str, details: Iterable[str] = (), hint: str = "") -> GradientError:
    """The error: what was compared, the likely cause, and the details, a line each."""
    likely = f"likely cause: {cause}: {CAUSES[cause]}" + (f"; {hint}" if hint else "")
    return GradientError("\n".join([headline, *[f"    {line}" for line in (likely, *details)]]), cause)
