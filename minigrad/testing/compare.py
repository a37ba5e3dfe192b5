"""Floor 6: one comparison: a gradient against values of the function, along a direction.

For a direction v and a cotangent g, ``<g, (df/dx) v>`` is one number that both sides can compute: the gradient as
``<g df/dx, v>``, anyone else from values of f on the line x + h v. A random cotangent sees what a sum hides
(every softmax sums to 1), and where all terms of ``<g df/dx, v>`` have one sign, a wrong factor is seen in full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from minigrad.engine import Tensor
from minigrad.errors import DeviceError, DtypeError, UserError, describe
from minigrad.testing.numeric import HALVINGS, TOLERANCE, Line, differences, extrapolate, flat, kinks, on_line, sides
from minigrad.testing.numeric import noise as noise_of

Arrays = list[np.ndarray]
SHORTER = {"float64": (1.0, 1 / 30, 1 / 1000), "float32": (1.0, 1 / 8, 1 / 64, 1 / 512, 1 / 4096)}
PLACES = 3
# Where values are coarse, derivatives below this, relative to g and v, count as zero.
NOTHING = {"float64": 1e-6, "float32": 1e-2}


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


def positive(where: str, name: str, value: Any, kind: type) -> None:
    """UserError unless an option is a positive number."""
    right = isinstance(value, (int, np.integer)) if kind is int else isinstance(value, (int, float, np.number))
    if isinstance(value, bool) or not right or not 0 < value < np.inf:
        expected = "an integer from 1 on" if kind is int else "a positive number"
        raise UserError(describe(where, f"{name}={value!r}", expected))


def as_array(where: str, x: Any, dtype: Any = None) -> np.ndarray:
    """An array of any; nested lists of several lengths are refused."""
    try:
        return np.asarray(x, dtype)
    except ValueError as error:
        do = "pass arrays; those of several lengths in a tuple"
        raise DtypeError(describe(where, f"a ragged list {x!r:.60}", "rows of one length", do)) from error


def inputs_of(where: str, given: Sequence[Any]) -> Arrays:
    """The inputs as float64; integers and other things without a derivative are refused."""
    found = []
    if not given:
        raise UserError(describe(where, "no inputs", "at least one array to differentiate by"))
    for i, x in enumerate(given):
        if isinstance(x, Tensor) and x.device != "cpu":
            do = f"pass x.numpy(), and move inside: lambda x: f(x.to({x.device!r})).to('cpu')"
            raise DeviceError(describe(where, f"input {i} on {x.device}", "inputs on the CPU", do))
        array = as_array(where, x)
        if array.dtype.kind in "iub" and hasattr(x, "dtype"):
            do = f"keep it out of the inputs, lambda *xs: f(*xs, indices), or pass x.astype('float64') as input {i}"
            raise DtypeError(describe(where, f"input {i} of dtype {array.dtype}", "floats", do))
        if array.dtype.kind == "O":
            do = "pass its arrays, or a dict of them, and build it in the function"
            raise DtypeError(describe(where, f"a {type(x).__name__} as input {i}", "an array", do))
        if array.dtype.kind not in "fiu":
            raise DtypeError(describe(where, f"input {i} of dtype {array.dtype}", "float32 or float64"))
        array = np.array(array, np.float64)
        if not np.isfinite(array).all():
            raise DtypeError(describe(where, f"NaN or Inf in input {i}", "finite values"))
        found.append(array)
    return found


def dtype_of(arrays: Sequence[Any]) -> str:
    """The least exact dtype among the results decides on steps, with that of the gradients on tolerances."""
    return "float32" if any(np.asarray(y).dtype in (np.float16, np.float32) for y in arrays) else "float64"


def finite(arrays: Sequence[Any]) -> bool:
    return all(np.isfinite(a).all() for a in arrays)


@dataclass
class Outcome:
    """What one comparison found; everything needed to look further.

    terms:    the size of what the gradient adds up
    allowed:  how far apart the two numbers may be
    coarse:   values are rounded to float32 or less, whatever their dtype
    """

    case: Case
    xs: Arrays
    ys: Arrays
    pull: Callable[[Sequence[Any]], Arrays]
    gs: Arrays
    vs: Arrays
    grads: Arrays
    scale: float
    dtype: str
    level: int = 1
    line: Line = field(default_factory=lambda: Line([], [], []))
    terms: float = 0.0
    analytic: float = np.nan
    numerical: float = np.nan
    error: float = np.inf
    allowed: float = 0.0
    coarse: bool = False
    moved: bool = False
    earlier: Arrays | None = None  # where the function was called first
    outside: str = ""  # at a kink: the interval of slopes that the gradient left
    failure: str = ""  # what f raised a step away
    relative: bool = False  # steps are relative to the inputs: f is not defined everywhere around them
    suspects: dict[int, np.ndarray] = field(default_factory=dict)  # entries found wrong, by input
    unseen: list[int] = field(default_factory=list)  # inputs too small beside the others to be seen

    @property
    def finite(self) -> bool:
        return finite(self.ys) and finite(self.grads)

    @property
    def settled(self) -> bool:
        return bool(self.error <= self.allowed < np.inf)

    @property
    def agrees(self) -> bool:
        return self.finite and self.settled and bool(abs(self.analytic - self.numerical) <= self.allowed)

    @property
    def size(self) -> float:
        return max(self.terms, abs(self.numerical))

    @property
    def difference(self) -> float:
        return abs(self.analytic - self.numerical) / (self.size or 1.0)

    @property
    def resolution(self) -> float:
        return self.allowed / (self.size or 1.0)

    @property
    def natural(self) -> float:
        """The size that the two numbers would have if the derivative were about 1."""
        return float(np.sqrt(sum(float((g * g).sum()) for g in self.gs) * sum(float((v * v).sum()) for v in self.vs)))

    @property
    def blurred(self) -> bool:
        """Whether a gradient that is quite wrong would have passed."""
        return self.allowed > max(0.5 * self.size, NOTHING[self.dtype] * self.natural)


def along(case: Case, xs: Arrays, vs: Arrays, size: int = 1, failure: list[str] | None = None) -> Callable:
    """All results as a function of the step along vs; NaN where f fails, which ``failure`` receives."""

    def f(h: float) -> np.ndarray:
        try:
            return flat(case.values([x + h * v for x, v in zip(xs, vs)]))
        except Exception as error:
            if failure is None:
                raise
            failure[:] = [f"{type(error).__name__}: {error}".splitlines()[0]]
            return np.full(size, np.nan)

    return f


def weights(gs: Sequence[Any], ys: Arrays) -> np.ndarray:
    """Cotangents one after the other, 0 for a result that is not used."""
    return flat([np.zeros(y.shape) if g is None else g for g, y in zip(gs, ys)])


def judged(at: Outcome, noise: float | None = None, floor: float = 0.0) -> Outcome:
    """Set gradient, numerical derivative, its error and how far apart the two may be.

    Values are taken to be as exact as their dtype allows, with a wide margin; ``noise`` is how exact they were seen
    to be.
    """
    g, y = weights(at.gs, at.ys), flat(at.ys)
    terms = flat([a * v for a, v in zip(at.grads, at.vs)])
    h = at.line.steps[0]
    found = differences(at.line, g)
    at.terms, at.analytic = float(abs(terms).sum()), float(terms.sum())
    at.numerical, at.error, row = extrapolate(found, 0.0 if noise is None else noise / h)
    if noise is None:
        rounding = 100 * np.finfo(np.float64).eps * float(abs(g * y).sum()) / (h / 2 ** len(found))
    else:
        rounding = 16 * max(noise, np.finfo(np.float64).eps * float(abs(g * y).max(initial=0))) / h * 2**row
    rounding += 16 * np.finfo(at.dtype).eps * float(abs(g * y).sum())  # 1 - y * y is as inexact as y
    if at.level > 1 or at.numerical == at.error == 0:  # what a gradient holds is rounding where f does not move
        rounding += 64 * np.finfo(at.dtype).eps * at.natural
    # errors of float32 are seen at random signs, where they do not add up
    size = at.terms if at.dtype == "float64" else max(abs(at.analytic), 2 * float(np.sqrt((terms * terms).sum())))
    at.allowed = TOLERANCE[at.dtype][min(at.level, 2)] * max(size, abs(at.numerical)) + rounding + floor
    return at


def measured(at: Outcome, scale: float, floor: float = 0.0) -> Outcome:
    """Compare along ``at.vs`` with steps up to ``scale``."""
    at = replace(at, scale=scale)
    failure: list[str] = []
    g, y = weights(at.gs, at.ys), flat(at.ys)
    f = along(at.case, at.xs, at.vs, y.size, failure)
    inexact = at.coarse or dtype_of(at.ys) == "float32"
    at.line = on_line(f, scale, HALVINGS["float32" if inexact else "float64"])
    judged(at, noise_of(f, g, scale) if inexact else None, floor)
    if not inexact and at.agrees and at.allowed > 1e-3 * at.size:  # the margin for rounding hides too much
        wide, at = at, judged(replace(at), noise_of(f, g, scale), floor)
        at.allowed = min(wide.allowed, at.allowed + 4 * at.error)
    at.failure = failure[0] if failure else ""
    return at


def confirmed(at: Outcome, floor: float = 0.0) -> Outcome:
    """A disagreement, measured again with other steps: what scatters is no reason to call a gradient wrong."""
    if at.agrees or not at.finite:
        return at
    found = [at.numerical, *[measured(at, c * at.scale, floor).numerical for c in (0.77, 0.59)]]
    scatter = max(found) - min(found)
    if 8 * scatter <= max(1e-4 * at.size, 1e-9 * at.natural):
        at.allowed = max(at.allowed, 8 * scatter)
    far = 8 * scatter if abs(at.analytic - at.numerical) <= 8 * scatter else scatter
    at.error = max(at.error, min(far, at.allowed) if at.agrees else far)
    return at


def rounds(at: Outcome) -> bool:
    """Whether values scatter as if float32 were in them, everywhere and not at a kink."""
    g, y = weights(at.gs, at.ys), flat(at.ys)
    noise = noise_of(along(at.case, at.xs, at.vs, y.size, []), g, at.scale)
    size = float(np.sqrt(((g * y) ** 2).sum()))
    return 1e-10 * size < noise < 1e-4 * size or (size < 1e-10 and 0 < noise < 1e-10)


def has_kinks(at: Outcome) -> bool:
    """Whether there is a kink or a jump at the point itself, along ``at.vs``."""
    y = flat(at.ys)
    return bool(kinks(along(at.case, at.xs, at.vs, y.size, []), y, at.dtype).any())


def draw(rng: np.random.Generator, xs: Sequence[Any]) -> Arrays:
    """Normal numbers in the shapes of xs."""
    return [np.asarray(rng.standard_normal(np.shape(x))) for x in xs]


def steps(at: Outcome, i: int) -> np.ndarray:
    """The steps in the entries of input i that f was seen to take, relative to those of other inputs."""
    size = abs(at.xs[i])
    return np.maximum(1.0, 1e-6 * size) * (np.minimum(1.0, size) if at.relative else 1.0)


def direction(rng: np.random.Generator, xs: Arrays, grads: Arrays | None = None, dtype: str = "float64") -> Arrays:
    """A random direction, of length 1 at most, or of steps of about 1 for inexact values; large inputs, which could
    not take so small steps, get larger ones. With ``grads`` it goes uphill everywhere."""
    vs = draw(rng, xs)
    if dtype == "float32":
        vs = [np.copysign(np.clip(abs(v), 0.5, 1.5), v) for v in vs]
    norm = max(1.0, float(np.sqrt(sum((v * v).sum() for v in vs)))) if dtype == "float64" else 1.0
    if grads is not None:
        vs = [np.where(np.nan_to_num(a) != 0, np.copysign(v, a), v) for v, a in zip(vs, grads)]
    return [v / norm * np.maximum(1.0, 1e-6 * abs(x)) for v, x in zip(vs, xs)]


def near(rng: np.random.Generator, case: Case, scale: float, relative: bool) -> Arrays:
    """A point nearby; ``relative``: with signs as they are, and zeros where they are."""
    steps = [np.clip(d, -2, 2) * scale for d in draw(rng, case.xs)]
    return [np.asarray(x + d * np.minimum(1.0, abs(x)) if relative else x + d) for x, d in zip(case.xs, steps)]


def elsewhere(case: Case, scale: float) -> Arrays | None:
    """Call f and its gradient at a point nearby first: what was saved there must not turn up later."""
    for relative in (False, True):  # f may not be defined at the first
        xs = near(np.random.default_rng(1), case, scale, relative)
        try:
            ys, pull = case.vjp(xs)
            pull([np.ones(y.shape) for y in ys])
            if finite(ys):
                return xs
        except Exception:  # it will fail at the inputs themselves, or not matter
            continue
    return None


def examine(
    case: Case, rng: np.random.Generator, level: int, scale: float, aligned: bool = False, dtype: str = "float64"
) -> Outcome:
    """Compare at the inputs; where values do not settle, with shorter steps, then at points nearby.

    A kink at the inputs themselves has no derivative, but slopes to both sides, and the gradient must lie between
    them in every direction. The comparison proper then takes place beside the kink. Where f fails a step away, steps
    become relative to the inputs. ``aligned``: along a direction that goes uphill in every input.
    """
    first = found = _at(case, case.xs, rng, None, level, scale, dtype)
    if not first.finite:
        return first
    tied: Outcome | None = None
    vs = direction(rng, case.xs, first.grads if aligned else None, dtype_of(first.ys) if dtype == "float64" else dtype)
    for place in range(PLACES):
        if place:
            try:
                xs = near(rng, case, scale, bool(found.failure) or not finite(found.line.plus + found.line.minus))
                at = _at(case, xs, rng, first.gs, level, scale, dtype)
            except Exception:  # f fails there
                continue
            if not at.finite:
                continue
            at.moved = True
        else:
            at = first
        found = at = _tried(at, vs, scale)
        if at.agrees:
            return tied or at
        kink = has_kinks(at)
        if not at.coarse and dtype_of(at.ys) == "float64" and rounds(at):
            at.coarse, at.dtype = True, "float32"
            found = at = _tried(at, direction(rng, at.xs, at.grads if aligned else None, "float32"), scale)
            kink = False
        if kink and level == 1 and place == 0:
            at.outside = leaves_the_slopes(at, rng)
            tied = at if at.outside else None
        if at.settled and not kink:
            return (tied or at) if at.agrees else at
    return found


def _at(
    case: Case, xs: Arrays, rng: np.random.Generator, gs: Arrays | None, level: int, scale: float, dtype: str
) -> Outcome:
    """Values and gradients at xs, not compared yet."""
    ys, pull = case.vjp(xs)
    gs = draw(rng, ys) if gs is None else gs
    grads = pull(gs)
    least = dtype_of([*ys, *grads]) if dtype == "float64" else dtype
    return Outcome(case, xs, ys, pull, gs, [], grads, scale, least, level, coarse=dtype == "float32")


def _tried(at: Outcome, vs: Arrays, scale: float) -> Outcome:
    """Compare with steps that become shorter until values settle."""
    inexact = at.coarse or dtype_of(at.ys) == "float32"
    at = replace(at, vs=vs)
    wrong: Outcome | None = None
    for shorter in SHORTER["float32" if inexact else "float64"]:
        at = measured(at, scale * shorter)
        if not at.relative and not finite([*at.line.plus, *at.line.minus]):
            within = [v * np.minimum(1.0, abs(x)) for v, x in zip(vs, at.xs)]
            if any(v.any() for v in within):
                failure, at = at.failure, measured(replace(at, vs=within, relative=True), scale * shorter)
                at.failure = at.failure or failure
        at = confirmed(at) if at.settled else at
        if at.agrees and (wrong is None or at.allowed <= 4 * wrong.allowed):
            return at
        if at.settled:
            wrong = wrong or at
            if not inexact:  # else a kink may be within the long steps: wrong only if shorter ones say so too
                return at
        if not inexact and has_kinks(at):
            return at
    return wrong or at


def leaves_the_slopes(at: Outcome, rng: np.random.Generator, directions: int = 16) -> str:
    """At a kink: in which direction the gradient is no number between the slopes to both sides, if in any."""
    h = 1e-5 if at.dtype == "float64" else 1e-2
    y, g = flat(at.ys), flat(at.gs)

    def leaves(vs: Arrays) -> tuple[float, float, float] | None:
        right, left = (g * s for s in sides(along(at.case, at.xs, vs, y.size, []), y, h))
        low, high = np.minimum(right, left).sum(), np.maximum(right, left).sum()
        analytic = flat([a * v for a, v in zip(at.grads, vs)]).sum()
        slack = 1e-3 * (abs(right).sum() + abs(left).sum()) + 1e3 * np.finfo(at.dtype).eps * abs(g * y).sum() / h
        return (low, high, analytic) if analytic < low - slack or analytic > high + slack else None

    def said(where: str, low: float, high: float, analytic: float) -> str:
        return f"where {where}, slopes lie from {low:.6g} to {high:.6g}, the gradient says {analytic:.6g}"

    for n in range(directions):
        if not (found := leaves([np.ones(x.shape) for x in at.xs] if n == 0 else draw(rng, at.xs))):
            continue
        for i, x in enumerate(at.xs):
            for j in range(x.size if x.size <= 64 else 0):
                one = [np.zeros(a.shape) for a in at.xs]
                one[i].flat[j] = 1.0
                if alone := leaves(one):
                    return said(f"input {i} rises at {[int(k) for k in np.unravel_index(j, x.shape)]}", *alone)
        return said("all inputs rise by the same" if n == 0 else "inputs move in a random direction", *found)
    return ""
