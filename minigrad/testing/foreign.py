"""Floor 6: gradients written by hand, in NumPy, Numba, C or another framework: arrays in, arrays out.

Nothing here needs a tensor.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np

from minigrad.engine.tree import leaves, rebuild
from minigrad.errors import GraphError, describe
from minigrad.testing.alone import closer, nonlinear, numbered, wrong_alone
from minigrad.testing.compare import (
    Arrays,
    Case,
    Outcome,
    as_array,
    draw,
    elsewhere,
    examine,
    inputs_of,
    positive,
    weights,
)
from minigrad.testing.layout import lay_out, shared
from minigrad.testing.numeric import EXACT, complex_step, flat
from minigrad.testing.refuse import TINY, blurred, clearest, explained, repeated, stands_still, unsettled
from minigrad.testing.report import Verdict, fail, note, shapes, times
from minigrad.testing.structure import gradients
from minigrad.testing.tally import Tally


def check_vjp(
    forward: Callable,
    backward: Callable,
    *inputs: Any,
    saved: bool = False,
    alias: bool = False,
    seed: int = 0,
    scale: float = 0.05,
) -> Verdict:
    """Raise GradientError if ``backward`` does not give the gradients of ``forward`` at ``inputs``.

    forward:   ``y = forward(*inputs)``, y an array or a container of arrays of any shapes
    backward:  ``backward(g, *inputs)`` for the cotangent g = dl/dy (containers as y) gives dl/dx for every input:
               one array for one input, a tuple for several; None stands for zero
    saved:     ``y, cache = forward(*inputs)`` and ``backward(g, cache)``
    alias:     accept gradients that share memory with inputs, cotangents or each other
    scale:     the largest step of the numerical derivative

    Inputs are arrays or containers of them (a dictionary of weights has a dictionary of gradients), passed as float64;
    what has no gradient (indices, sizes) is bound by a lambda. ``forward`` runs right before each ``backward``, so
    the methods of a layer that remembers its input can be checked: ``check_vjp(layer.forward, lambda g, x:
    layer.backward(g), x)``. Where forward takes complex arrays and reaches nothing that could remember them, a
    call with complex inputs makes the numerical side exact. The error names the likely cause. UserError, DtypeError or
    GraphError for misuse.

    >>> import numpy as np
    >>> check_vjp(lambda x: np.tanh(x), lambda g, x: g * (1 - np.tanh(x) ** 2), np.array([0.3, -1.0]))
    right: order 1, ... errors above ... would be seen
    """
    inputs, xs = _given("check_vjp", inputs, scale)
    case = _Foreign("check_vjp", forward, inputs, saved).by_vjp(backward, xs)
    return _check(case, xs, "backward", alias, seed, scale)


def check_jvp(forward: Callable, tangent: Callable, *inputs: Any, seed: int = 0, scale: float = 0.05) -> Verdict:
    """Raise GradientError if ``tangent`` does not give the derivative of ``forward`` along a direction.

    forward:  ``y = forward(*inputs)``, y an array or a container of arrays
    tangent:  ``tangent(v, *inputs)`` gives (df/dx) v in the shape of y; v has the shape of the input, and is a
              tuple for several inputs
    scale:    the largest step of the numerical derivative

    It is asked for every direction along one axis, from which follows ``g df/dx``, and for random ones.

    >>> import numpy as np
    >>> check_jvp(lambda x: x * x, lambda v, x: 2 * x * v, np.array([0.3, -1.0]))
    right: order 1, ... errors above ... would be seen
    """
    inputs, xs = _given("check_jvp", inputs, scale)
    case = _Foreign("check_jvp", forward, inputs, False).by_jvp(tangent, xs)
    return _check(case, xs, "tangent", True, seed, scale)


def _given(where: str, inputs: Sequence[Any], scale: float) -> tuple[tuple, Arrays]:
    """The inputs in their containers, and one after the other as float64."""
    positive(where, "scale", scale, float)
    inputs = tuple(numbers(where, x) for x in inputs)
    return inputs, inputs_of(where, leaves(inputs))


def numbers(where: str, x: Any) -> Any:
    """Nested lists of numbers as an array; containers of arrays as they are."""
    plain = isinstance(x, (list, tuple)) and all(isinstance(n, (int, float)) for n in leaves(x))
    return as_array(where, x, np.float64) if plain else x


class _Foreign:
    """Foreign code as functions of lists of arrays. Everything handed out is a copy, and looked at afterwards."""

    def __init__(self, name: str, forward: Callable, inputs: Sequence[Any], saved: bool):
        self.name, self.forward, self.inputs, self.saved = name, forward, inputs, saved
        self.out: Any = None  # the containers of the result
        self.layout = "plain"
        self.backward: Callable | None = None
        self.push: Callable | None = None  # (xs, vs, ys) -> what tangent gives
        self.last: tuple[Arrays, Arrays, Arrays] | None = None  # gradients, inputs and cotangents of the last call

    def call(self, xs: Sequence[Any]) -> tuple[Arrays, Any, Arrays]:
        """Results, what was saved, and the inputs as handed out."""
        given = [lay_out(np.asarray(x), self.layout) for x in xs]
        with np.errstate(all="ignore"):  # NaN and Inf are looked for
            out = self.forward(*rebuild(self.inputs, given))
        cache = None
        if self.saved:
            if not isinstance(out, tuple) or len(out) != 2:
                got = f"a forward that returns {type(out).__name__}"
                raise GraphError(describe(self.name, got, "a pair (y, cache)", "or leave saved=True away"))
            out, cache = out
        self.out = out
        ys = [np.asarray(y) for y in leaves(out)]
        for i, y in enumerate(ys):
            if y.dtype.kind not in ("fc" if any(np.iscomplexobj(x) for x in xs) else "f"):
                do = "return floats" if self.saved else "return floats; if it is what forward saves, pass saved=True"
                do = "return real and imaginary parts as two outputs" if y.dtype.kind == "c" else do
                raise GraphError(describe(self.name, f"output {i} of forward of dtype {y.dtype}", "floats", do))
        if not ys:
            raise GraphError(describe(self.name, "a forward that returns nothing", "an array or a tuple of arrays"))
        return ys, cache, given

    def values(self, xs: Sequence[Any]) -> Arrays:
        return [np.array(y) for y in self.call(xs)[0]]

    def unchanged(self, who: str, what: str, given: Sequence[Any], before: Sequence[Any]) -> None:
        for i, (a, b) in enumerate(zip(given, before)):
            if not np.array_equal(a, b, equal_nan=True):
                text = f"{self.name}: {who} changed {what} {i} of shape {np.shape(b)}"
                raise fail(text, "mutation", hint=f"work on a copy: {what} {i} belongs to the caller")

    def by_vjp(self, backward: Callable, xs: Arrays) -> Case:
        self.backward = backward

        def vjp(at: Sequence[Any]) -> tuple[Arrays, Callable]:
            called = [self.call(at)]
            results = [np.array(y) for y in called[0][0]]

            def pull(gs: Sequence[Any]) -> Arrays:
                ys, cache, given = called.pop() if called else self.call(at)
                self.unchanged("forward", "input", given, at)
                used = [np.zeros(y.shape) if g is None else g for g, y in zip(gs, ys)]
                sent = [lay_out(np.asarray(g, y.dtype), self.layout) for g, y in zip(used, ys)]
                before = [g.copy() for g in sent]
                g = rebuild(self.out, sent)
                found = self.run(g, cache, given)
                self.unchanged("backward", "input", given, at)
                self.unchanged("backward", "cotangent", sent, before)
                self.last = found, given, sent
                return [np.array(a) for a in self.last[0]]

            return results, pull

        return Case(self.values, vjp, xs)

    def run(self, g: Any, cache: Any, given: Arrays) -> Arrays:
        """The gradients by backward, one after the other; what is raised says how it was called."""
        assert self.backward is not None
        try:
            with np.errstate(all="ignore"):
                found = self.backward(g, cache) if self.saved else self.backward(g, *rebuild(self.inputs, given))
            return gradients(self.name, found, self.inputs, given, self.out)
        except Exception as error:
            kind = f"a {type(g).__name__} of {len(g)}" if isinstance(g, (tuple, list, dict)) else "an array"
            more = "what forward saved" if self.saved else f"{len(self.inputs)} input(s)"
            do = "; if forward returns (y, cache), pass saved=True" if not self.saved and isinstance(g, tuple) else ""
            if do or not isinstance(error, AssertionError):  # a report says enough
                error.add_note(f"{self.name} called backward with the cotangent, {kind}, and {more}{do}")
            raise

    def by_jvp(self, tangent: Callable, xs: Arrays) -> Case:
        def push(at: Sequence[Any], vs: Sequence[Any], ys: Arrays) -> Arrays:
            given = [lay_out(np.asarray(x), self.layout) for x in at]
            sent = [lay_out(np.asarray(v), self.layout) for v in vs]
            v = rebuild(self.inputs, sent)
            with np.errstate(all="ignore"):
                out = tangent(v[0] if len(self.inputs) == 1 else v, *rebuild(self.inputs, given))
            self.unchanged("tangent", "input", given, at)
            self.unchanged("tangent", "direction", sent, vs)
            found = [np.asarray(t) for t in leaves(out)]
            if [t.shape for t in found] != [y.shape for y in ys] or any(t.dtype.kind != "f" for t in found):
                got = ", ".join(f"{t.dtype} {t.shape}" for t in found) or "None"
                text = f"{self.name}: tangent returned shapes {got}, forward {shapes(ys)}"
                raise fail(text, "structure", hint="return (df/dx) v, floats in the shape of the output")
            return found

        self.push = push

        def vjp(at: Sequence[Any]) -> tuple[Arrays, Callable]:
            ys = self.values(at)

            def pull(gs: Sequence[Any]) -> Arrays:
                """<g, J e> for every basis vector e: the transpose of what tangent does."""
                w, found = weights(gs, ys), []
                for i, x in enumerate(at):
                    grad = np.zeros(x.size)
                    for j in range(x.size):
                        vs = [np.zeros(a.shape) for a in at]
                        vs[i].flat[j] = 1.0
                        grad[j] = w @ flat(push(at, vs, ys))
                    found.append(grad.reshape(x.shape))
                return found

            return ys, pull

        return Case(self.values, vjp, xs)


def _check(case: Case, xs: Arrays, who: str, alias: bool, seed: int, scale: float) -> Verdict:
    foreign: _Foreign = case.values.__self__  # type: ignore[attr-defined]
    Tally.checks += 1
    rng = np.random.default_rng(seed)
    earlier = elsewhere(case, scale)
    found = []
    for n in range(2):
        at = examine(case, rng, 1, scale, aligned=n == 0)
        at.earlier = earlier
        at = _exact(at, foreign.forward)
        _judge(at, foreign.name, who)
        if n == 0:
            for one in closer(at):
                _judge(one, foreign.name, who)
            _alone(at, foreign, alias) if who == "backward" else _any_direction(at, foreign)
        found.append(at)
    said = note(found[0].coarse, found[0].dtype, found[0].unseen)
    return Verdict(1, len(found), max(a.difference for a in found), max(a.resolution for a in found),
                   any(a.moved for a in found), said)  # fmt: skip


def _judge(at: Outcome, name: str, who: str) -> None:
    if at.agrees and not at.blurred:
        return
    text = f"{name} at inputs {shapes(at.xs)}: {who} {at.analytic:.12g}, "
    if at.outside:
        raise fail(f"{text}at a kink, but {at.outside}", "ties")
    for what, arrays in (("output", at.ys), ("the gradient of input", at.grads)):
        for i, a in enumerate(arrays):
            if not np.isfinite(a).all():
                where = [int(k) for k in np.argwhere(~np.isfinite(a))[0]]
                moved = " at a point nearby" if at.moved else ""
                text = f"{name} at inputs {shapes(at.xs)}: {what} {i} of shape {a.shape} is {a[tuple(where)]}"
                raise fail(f"{text} at {where}{moved}", "not finite")
    repeated(text, at, who)
    if not at.settled:
        raise unsettled(text, at)
    if at.agrees or (at.size < TINY * at.natural and stands_still(at)):
        raise blurred(text, at)
    at = clearest(at)
    cause, hint, details = explained(at)
    text = (
        f"{name} at inputs {shapes(at.xs)}: {who} {at.analytic:.12g}, numerical {at.numerical:.12g} +- {at.error:.1g}, "
    )
    text += f"ratio {times(at.analytic, at.numerical)}"
    if at.dtype == "float32":
        text += f" (in float32: {at.allowed / (at.size or 1.0):.0e} is accepted)"
    if who == "tangent":
        details = [line.replace("gradient", "tangent") for line in details]
        hint = hint.replace("the cotangent", "the direction").replace("gradient", "tangent")
    raise fail(text, cause, details, hint)


def _reaches_nothing(f: Callable) -> bool:
    """Whether a function sees only functions, modules, numbers and arrays: then no object keeps what it was given."""
    plain = (FunctionType, BuiltinFunctionType, ModuleType, type, np.ufunc, np.ndarray, np.generic, int, float, str)
    if isinstance(f, np.ufunc):
        return True
    if not isinstance(f, FunctionType):
        return False
    try:
        seen = inspect.getclosurevars(f)
    except (TypeError, ValueError):
        return False
    return all(x is None or isinstance(x, plain) for x in [*seen.nonlocals.values(), *seen.globals.values()])


def _exact(at: Outcome, forward: Callable) -> Outcome:
    """Where forward takes complex arrays, a numerical derivative that is exact to rounding, to compare with."""
    if at.dtype != "float64" or not at.agrees or at.outside or not _reaches_nothing(forward):
        return at
    g = flat(at.gs)
    exact = complex_step(at.case.values, at.xs, at.vs)
    if exact is None or at.error > 1e-2 * at.size or at.numerical == at.error == 0:
        return at
    numerical = float(exact @ g)
    if abs(numerical - at.numerical) <= 10 * at.error + 1e-12 * at.terms:  # else the imaginary part was lost on the way
        at.numerical, at.error = numerical, 0.0
        at.allowed = EXACT * max(at.terms, abs(numerical)) + 1e-12 * float(abs(exact * g).sum())
    return at


def _any_direction(at: Outcome, foreign: _Foreign) -> None:
    """The tangent of a random direction, of twice its opposite, and of the same in strided memory."""
    name = f"{foreign.name} at inputs {shapes(at.xs)}"
    vs = draw(np.random.default_rng(0), at.xs)
    assert foreign.push is not None
    tolerance = 1e-9 if at.dtype == "float64" else 1e-4
    grads = at.pull(at.gs)  # by the tangents of unit vectors
    expected = sum(float((a * v).sum()) for a, v in zip(grads, vs))
    size = sum(float(abs(a * v).sum()) for a, v in zip(grads, vs))
    for factor in (1.0, -2.0):
        found = float(weights(at.gs, at.ys) @ flat(foreign.push(at.xs, [factor * v for v in vs], at.ys))) / factor
        if not abs(found - expected) <= tolerance * size:
            text = f"{name}: tangent {found:.12g} in a random direction, {expected:.12g} by those of unit vectors"
            raise fail(text, "cotangent", hint="the tangent is not linear in v")
    plain = foreign.push(at.xs, vs, at.ys)
    foreign.layout = "stepped"
    try:
        strided = foreign.push(at.xs, vs, at.ys)
    except (TypeError, ValueError, BufferError):  # refused, which is as good
        return
    finally:
        foreign.layout = "plain"
    _same_strided(name, "tangent of output", strided, plain, at.dtype)


def _same_strided(name: str, what: str, got: Arrays, expected: Arrays, dtype: str) -> None:
    tolerance, zero = (1e-9, 1e-12) if dtype == "float64" else (1e-4, 1e-5)
    for i, (a, b) in enumerate(zip(got, expected)):
        if not np.allclose(a, b, rtol=tolerance, atol=zero * abs(b).max(initial=0)):
            raise fail(f"{name}: {what} {i} differs when arrays are strided, of the same values", "strided")


def _alone(at: Outcome, foreign: _Foreign, alias: bool) -> None:
    """Outputs used alone, a second call, strided memory, shared memory."""
    name = f"{foreign.name} at inputs {shapes(at.xs)}"
    first = at.pull(at.gs)
    assert foreign.last is not None
    kept, given, sent = foreign.last
    if not all(np.array_equal(a, b) for a, b in zip(first, at.grads)):
        raise fail(f"{name}: two calls of backward on the same inputs gave different gradients", "random")
    if not all(np.array_equal(a, b) for a, b in zip(at.ys, at.case.values(at.xs))):
        raise fail(f"{name}: two calls of forward on the same inputs gave different results", "random")
    if not alias and (owner := shared(kept, given, sent)):
        raise fail(f"{name}: {owner}, or pass alias=True", "aliasing")
    twice = nonlinear(at)
    if not all(np.array_equal(a, b) for a, b in zip(kept, first)) and not alias:
        raise fail(f"{name}: a gradient was overwritten by the next call of backward", "aliasing")
    if twice:
        raise fail(f"{name}: {twice}", "cotangent")
    if found := wrong_alone(at):
        some, one = found
        text = f"{name}, where {numbered('output', some)} alone is used: backward {one.analytic:.12g}, "
        hint = "with every output used the gradient is right"
        raise fail(f"{text}numerical {one.numerical:.12g}", "unused output", hint=hint)
    if foreign.saved and not _survives(at, foreign):
        text = f"{name}: backward gives something else when forward has run again in between"
        raise fail(text, "stale", hint="what forward saved was overwritten: save a copy")
    foreign.layout = "stepped"
    try:
        ys, grads = at.case.values(at.xs), at.pull(at.gs)
    except (TypeError, ValueError, BufferError):  # refused, which is as good
        return
    finally:
        foreign.layout = "plain"
    _same_strided(name, "output", ys, at.ys, at.dtype)
    _same_strided(name, "the gradient of input", grads, at.grads, at.dtype)


def _survives(at: Outcome, foreign: _Foreign) -> bool:
    """Whether what forward saved is still the same after another call of forward."""
    _, cache, given = foreign.call(at.xs)
    out = foreign.out
    foreign.call(at.earlier or at.xs)
    found = foreign.run(rebuild(out, [np.array(g, y.dtype) for g, y in zip(at.gs, at.ys)]), cache, given)
    return all(np.array_equal(a, b) for a, b in zip(found, at.grads))
