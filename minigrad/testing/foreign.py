"""Floor 6: gradients written by hand, in NumPy, Numba, C or another framework: arrays in, arrays out.

Nothing here needs a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.engine.tree import flatten, leaves, rebuild
from minigrad.errors import GraphError, describe
from minigrad.testing.cause import explain
from minigrad.testing.compare import (
    Arrays,
    Case,
    Outcome,
    direction,
    examine,
    inputs_of,
    numbered,
    weights,
    wrong_alone,
)
from minigrad.testing.layout import lay_out, shared
from minigrad.testing.numeric import complex_step, flat
from minigrad.testing.report import Verdict, fail, ratio, shapes
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
    layer.backward(g), x)``. The error names the likely cause.

    >>> import numpy as np
    >>> check_vjp(lambda x: np.tanh(x), lambda g, x: g * (1 - np.tanh(x) ** 2), np.array([0.3, -1.0]))
    right: order 1, ... errors above ... would be seen
    """
    inputs = tuple(map(numbers, inputs))
    xs = inputs_of("check_vjp", leaves(inputs))
    case = _Foreign("check_vjp", forward, inputs, saved).by_vjp(backward, xs)
    return _check(case, xs, "backward", alias, seed, scale)


def check_jvp(forward: Callable, tangent: Callable, *inputs: Any, seed: int = 0, scale: float = 0.05) -> Verdict:
    """Raise GradientError if ``tangent`` does not give the derivative of ``forward`` along a direction.

    forward:  ``y = forward(*inputs)``, y an array or a container of arrays
    tangent:  ``tangent(v, *inputs)`` gives (df/dx) v in the shape of y; v has the shape of the input, and is a
              tuple for several inputs

    >>> import numpy as np
    >>> check_jvp(lambda x: x * x, lambda v, x: 2 * x * v, np.array([0.3, -1.0]))
    right: order 1, ... errors above ... would be seen
    """
    inputs = tuple(map(numbers, inputs))
    xs = inputs_of("check_jvp", leaves(inputs))
    case = _Foreign("check_jvp", forward, inputs, False).by_jvp(tangent, xs)
    return _check(case, xs, "tangent", True, seed, scale)


def numbers(x: Any) -> Any:
    """Nested lists of numbers as an array; containers of arrays as they are."""
    plain = isinstance(x, (list, tuple)) and all(isinstance(n, (int, float)) for n in leaves(x))
    return np.asarray(x, np.float64) if plain else x


class _Foreign:
    """Foreign code as functions of lists of arrays. Everything handed out is a copy, and looked at afterwards."""

    def __init__(self, name: str, forward: Callable, inputs: Sequence[Any], saved: bool):
        self.name, self.forward, self.inputs, self.saved = name, forward, inputs, saved
        self.out: Any = None  # the containers of the result
        self.layout = "plain"
        self.backward: Callable | None = None
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
            if y.dtype.kind not in "fc":
                do = "return floats" if self.saved else "return floats; if it is what forward saves, pass saved=True"
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
                with np.errstate(all="ignore"):
                    found = backward(g, cache) if self.saved else backward(g, *rebuild(self.inputs, given))
                self.unchanged("backward", "input", given, at)
                self.unchanged("backward", "cotangent", sent, before)
                self.last = self.gradients(found, given), given, sent
                return [np.array(a, np.float64) for a in self.last[0]]

            return results, pull

        return Case(self.values, vjp, xs)

    def gradients(self, found: Any, xs: Sequence[Any]) -> Arrays:
        """The gradients one after the other, of the right number and shapes."""
        single = len(self.inputs) == 1
        if single and isinstance(found, (tuple, list)) and not isinstance(self.inputs[0], (tuple, list)):
            given = list(found)
        else:
            given = [found] if single else list(found) if isinstance(found, (tuple, list)) else [found]
        if len(given) != len(self.inputs):
            got = f"{self.name}: backward returned {len(given)} gradients for {len(self.inputs)} inputs"
            raise fail(got, "structure", hint="return one for each input, in their order; None for zero")
        grads: list[Any] = []
        for i, (a, x) in enumerate(zip(given, self.inputs)):
            if a is None:
                a = rebuild(x, [np.zeros(np.shape(leaf)) for leaf in leaves(x)])
            if flatten(a)[1] != flatten(x)[1]:
                kinds = f"is {type(a).__name__}, the argument is {type(x).__name__}"
                got = f"{self.name}: the gradient of argument {i} {kinds}"
                raise fail(got, "structure", hint="return the same containers as the input's")
            grads += leaves(a)
        for i, (a, x) in enumerate(zip(grads, xs)):
            if np.asarray(a).dtype.kind != "f":
                got = f"{self.name}: the gradient of input {i} has dtype {np.asarray(a).dtype}"
                raise fail(got, "structure", hint="return floats")
            if np.shape(a) != x.shape:
                raise wrong_shape(self.name, i, np.shape(a), x.shape, leaves(self.out))
        return [np.asarray(a) for a in grads]

    def by_jvp(self, tangent: Callable, xs: Arrays) -> Case:
        def push(at: Sequence[Any], vs: Sequence[Any], ys: Arrays) -> Arrays:
            given, sent = [np.array(x) for x in at], [np.array(v) for v in vs]
            v = rebuild(self.inputs, sent)
            out = tangent(v[0] if len(self.inputs) == 1 else v, *rebuild(self.inputs, given))
            self.unchanged("tangent", "input", given, at)
            self.unchanged("tangent", "direction", sent, vs)
            found = [np.asarray(t, np.float64) for t in leaves(out)]
            if [t.shape for t in found] != [y.shape for y in ys]:
                text = f"{self.name}: tangent returned shapes {shapes(found)}, forward {shapes(ys)}"
                raise fail(text, "structure", hint="return (df/dx) v in the shape of the output")
            return found

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


def wrong_shape(name: str, i: int, got: tuple, expected: tuple, ys: Sequence[Any]) -> Exception:
    """The error for a gradient that has not the shape of its input, with what probably was forgotten."""
    text = f"{name}: the gradient of input {i} has shape {got}, the input {expected}"
    lead = len(got) - len(expected)
    try:
        repeated = np.broadcast_shapes(got, expected) == got
    except ValueError:
        repeated = False
    if repeated:
        axes = tuple(range(lead)) + tuple(k + lead for k, n in enumerate(expected) if n == 1 and got[k + lead] != 1)
        do = f"broadcasting repeated it: sum the gradient over axes {axes} and reshape it to {expected}"
        return fail(text, "unbroadcast", hint=do)
    if len(got) > 1 and sorted(got) == sorted(expected):
        return fail(text, "transposition", hint="its axes are in another order")
    known = {1, *expected, *(n for y in ys for n in np.shape(y))}
    if len(got) <= len(expected) and set(got) <= known:
        return fail(text, "axis", hint="a sum ran over an axis that the input has, or not over one that it lacks")
    return fail(text, "structure", hint="return dl/dx in the shape of x")


def _check(case: Case, xs: Arrays, who: str, alias: bool, seed: int, scale: float) -> Verdict:
    foreign: _Foreign = case.values.__self__  # type: ignore[attr-defined]
    Tally.checks += 1
    rng = np.random.default_rng(seed)
    vs = direction(rng, xs)
    earlier = [x + scale * v for x, v in zip(xs, vs)]
    ys, pull = case.vjp(earlier)
    pull([np.ones(y.shape) for y in ys])
    found = []
    for n in range(2):
        at = examine(case, rng, 1, scale)
        at.earlier = earlier
        _judge(at, foreign.name, who)
        if n == 0 and who == "backward":
            _alone(at, foreign, alias)
        found.append(at)
    for at in found:
        _exact(at)
    return Verdict(1, len(found), max(a.difference for a in found), max(a.resolution for a in found),
                   any(a.moved for a in found))  # fmt: skip


def _judge(at: Outcome, name: str, who: str) -> None:
    if at.agrees:
        return
    text = f"{name} at inputs {shapes(at.xs)}: {who} {at.analytic:.12g}, "
    if at.outside:
        raise fail(f"{text}at a kink, but {at.outside}", "ties")
    for what, arrays in (("output", at.ys), ("the gradient of input", at.grads)):
        for i, a in enumerate(arrays):
            if not np.isfinite(a).all():
                where = [int(k) for k in np.argwhere(~np.isfinite(a))[0]]
                raise fail(f"{text}{what} {i} of shape {a.shape} is {a[tuple(where)]} at {where}", "not finite")
    if not at.settled:
        again = at.case.values(at.xs)
        if not all(np.array_equal(a, b) for a, b in zip(again, at.case.values(at.xs))):
            raise fail(f"{text}but two calls of forward on the same inputs differ", "random")
        raise fail(
            f"{text}but the numerical derivative, {at.numerical:.12g}, does not settle (+- {at.error:.1g}) within "
            f"{at.scale:g} of the inputs; move them or lower scale",
            "kink",
        )
    off = ratio(at.analytic, at.numerical)
    cause, hint, details = explain(at)
    text = f"{text}numerical {at.numerical:.12g} +- {at.error:.1g}, ratio {off:.6g}"
    raise fail(text, cause, details, hint)


def _exact(at: Outcome) -> None:
    """Where forward takes complex arrays, the same once more with a derivative exact to rounding."""
    if at.dtype != "float64":
        return
    exact = complex_step(at.case.values, at.xs, at.vs)
    if exact is None:
        return
    g = flat(at.gs)
    numerical = float(exact @ g)
    if abs(numerical - at.numerical) > 10 * at.error + 1e-12 * at.terms:
        return  # the imaginary part was lost on the way
    tiny = 1e-12 * (at.terms + abs(exact * g).sum()) + 1e-15
    at.numerical, at.error = numerical, 0.0
    at.allowed = min(at.allowed, max(tiny, abs(at.analytic - numerical)))


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
    at.pull([2 * g for g in at.gs])
    if not all(np.array_equal(a, b) for a, b in zip(kept, first)) and not alias:
        raise fail(f"{name}: a gradient was overwritten by the next call of backward", "aliasing")
    if found := wrong_alone(at):
        some, analytic, numerical, _ = found
        text = f"{name}, where {numbered('output', some)} alone is used: backward {analytic:.12g}, "
        raise fail(
            f"{text}numerical {numerical:.12g}", "unused output", hint="with every output used the gradient is right"
        )
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
    for what, got, expected in (("output", ys, at.ys), ("the gradient of input", grads, at.grads)):
        for i, (a, b) in enumerate(zip(got, expected)):
            if not np.allclose(a, b, rtol=1e-9 if at.dtype == "float64" else 1e-4, atol=1e-12):
                raise fail(f"{name}: {what} {i} differs when arrays are strided, of the same values", "strided")


def _survives(at: Outcome, foreign: _Foreign) -> bool:
    """Whether what forward saved is still the same after another call of forward."""
    _, cache, _ = foreign.call(at.xs)
    foreign.call(at.earlier or at.xs)
    assert foreign.backward is not None
    found = foreign.backward(rebuild(foreign.out, [np.array(g) for g in at.gs]), cache)
    return all(np.array_equal(a, b) for a, b in zip(foreign.gradients(found, at.xs), at.grads))
