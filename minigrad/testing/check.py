"""Floor 6: reverse mode of minigrad against numerical derivatives, to any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.engine import Tensor, enable_grad, toposort
from minigrad.engine.backward import key
from minigrad.engine.tree import leaves
from minigrad.errors import GraphError, describe
from minigrad.testing.alone import closer, nonlinear, numbered, subsets, wrong_alone
from minigrad.testing.compare import Arrays, Outcome, draw, elsewhere, examine, finite, inputs_of, positive
from minigrad.testing.layout import lay_out, shared
from minigrad.testing.numeric import flat
from minigrad.testing.refuse import TINY, blurred, clearest, explained, repeated, unsettled
from minigrad.testing.report import GradientError, Verdict, fail, note, shapes, times
from minigrad.testing.tally import Tally
from minigrad.testing.trace import (
    broken_rule,
    cancelled,
    derivative,
    first_wrong_operation,
    in_float64,
    no_rule,
    of_tensors,
)


def check_grad(f: Callable, *inputs: Any, order: int = 2, seed: int = 0, scale: float = 0.05) -> Verdict:
    """Raise GradientError if a derivative of f at ``inputs``, up to ``order``, is wrong or cannot be judged.

    f:       takes tensors, returns tensors in any containers; the parameters of a Module are float64 meanwhile
    inputs:  arrays or tensors of any shapes, taken as float64; f gets a tensor of a device there, arrays on the CPU
    order:   the highest derivative that is checked
    scale:   the largest step of the numerical derivative

    Along a direction v with a random cotangent g, ``<g df/dx, v> = <g, (df/dx) v>``; for every order the derivative
    before is checked in the same way. Every input and output alone, subsets of them, strided inputs and a second call
    must give the same; inputs stay unchanged and gradients share no memory. At a kink the gradient must lie between the
    slopes to both sides, and the comparison moves to a point nearby. The error names the likely cause, and the
    first operation whose own gradient is wrong; what is returned says how sharp the check was. UserError, DtypeError or
    GraphError for misuse.

    >>> import minigrad as mg, numpy as np
    >>> mg.testing.check_grad(mg.tanh, np.array([0.3, -1.0]))
    right: orders 1 to 2, ... errors above ... would be seen
    """
    positive("check_grad", "order", order, int)
    positive("check_grad", "scale", scale, float)
    places = [x.device if isinstance(x, Tensor) else "cpu" for x in inputs]
    xs = inputs_of("check_grad", [x.to("cpu") if isinstance(x, Tensor) else x for x in inputs])
    Tally.checks += 1

    def results(*ts: Tensor) -> tuple:
        out = leaves(f(*(t.to(place) for t, place in zip(ts, places))))
        if not all(isinstance(y, Tensor) for y in out) or not out:
            kind = type(next((y for y in out if not isinstance(y, Tensor)), None)).__name__
            do = "compute with minigrad's operations; for other code use check_vjp"
            raise GraphError(describe("check_grad", f"a function that returns {kind}", "tensors", do))
        return tuple(y.to("cpu") for y in out if y.dtype.kind == "f")

    with in_float64(f), enable_grad():
        try:
            return _check(results, xs, order, np.random.default_rng(seed), scale)
        except GradientError:
            raise
        except Exception as error:
            if said := broken_rule(results, xs, order, error):
                raise fail(*said) from error
            raise


def _check(results: Callable, xs: Arrays, order: int, rng: np.random.Generator, scale: float) -> Verdict:
    g, count = results, len(xs)
    found: list[Outcome] = []
    earlier = elsewhere(of_tensors(g, xs), scale)
    dtype = "float64"
    for level in range(1, order + 1):
        at = examine(of_tensors(g, xs), rng, level, scale, aligned=level == 1, dtype=dtype)
        at.earlier = earlier if level == 1 else None
        judge(at, level, results, count)
        if level == 1:
            dtype = at.dtype
            found.append(at)
            for one in closer(at):
                judge(one, level, results, count)
            if said := nonlinear(at):
                raise fail(f"order 1 at inputs {shapes(at.xs)}: {said}", "cotangent")
            _outputs_alone(at)
            _inputs_alone(g, at, rng)
        else:
            _forward_over_reverse(found[-1], at, level)
            found.append(at)
        g, xs = derivative(g, len(at.xs)), [*at.xs, *at.gs]
    return Verdict(
        order,
        len(found),
        max(at.difference for at in found),
        max(at.resolution for at in found),
        any(at.moved for at in found),
        note(found[0].coarse, found[0].dtype, found[0].unseen),
    )


def headline(at: Outcome, level: int) -> str:
    where = f" at inputs {shapes(at.xs)}" if level == 1 else f" of inputs and cotangents {shapes(at.xs)}"
    return f"order {level}{where}: reverse mode {at.analytic:.12g}, "


def judge(at: Outcome, level: int, results: Callable, count: int) -> None:
    """Raise the error that an outcome deserves, if any."""
    if at.agrees and not at.blurred:
        return
    text = headline(at, level)

    def operation() -> list[str]:
        return first_wrong_operation(results, at.xs[:count], level)

    if not at.finite:
        which = "a result" if finite(at.grads) else "a gradient"
        raise fail(f"{text}but {which} is NaN or Inf", "not finite", operation())
    if at.outside:
        raise fail(f"{text}at a kink, but {at.outside}", "ties", operation())
    if max(at.size, at.error) <= TINY * at.natural and cancelled(results, at.xs[:count], at):
        return
    repeated(text, at, "the gradient")
    if not at.settled:
        raise unsettled(text, at)
    if at.agrees:
        raise blurred(text, at)
    at = clearest(at) if level == 1 else at
    off = times(at.analytic, at.numerical)
    text = f"{headline(at, level)}numerical {at.numerical:.12g} +- {at.error:.1g}, ratio {off}"
    first = operation()
    if level > 1:
        raise fail(text, "second derivative", [*explained(at)[2], *first])
    cause, hint, details = explained(at)
    if not first and cause in ("term", "zero", "factor", "edge"):
        cause, hint = "tape", "every operation passes alone, so look for detach() and for arrays taken out of tensors"
        hint = no_rule(results, at.xs) or hint
    raise fail(text, cause, [*details, *first], hint)


def _outputs_alone(at: Outcome) -> None:
    """Every result used alone must give the gradient of that result alone."""
    if found := wrong_alone(at):
        some, one = found
        raise fail(
            f"order 1 at inputs {shapes(at.xs)}, using {numbered('output', some)} alone: reverse mode "
            f"{one.analytic:.12g}, numerical {one.numerical:.12g} +- {one.error:.1g}",
            "unused output",
            hint="with every output used the gradient is right",
        )


def close(got: Any, expected: Any, around: float, dtype: str = "float64") -> bool:
    loose = 1.0 if dtype == "float64" else 1e5
    return got.shape == expected.shape and bool(
        np.all(abs(got - expected) <= loose * 1e-9 * max(abs(expected).max(initial=0), around * 1e-4) + 1e-12)
    )


def _inputs_alone(f: Callable, at: Outcome, rng: np.random.Generator) -> None:
    """``backward`` into some of the inputs, once from strided memory, must give what ``vjp`` gave for all of them."""
    count = len(at.xs)
    chosen = subsets(count, rng)
    around = max([abs(a).max(initial=0) for a in [*at.grads, *at.ys]], default=0.0)
    text = f"order 1 at inputs {shapes(at.xs)}"

    def same(some: set, ys: Arrays, grads: Any) -> bool:
        values = all(close(a, b, around, at.dtype) for a, b in zip(ys, at.ys))
        return values and (grads is None or all(close(grads[i], at.grads[i], around, at.dtype) for i in some))

    for n, some in enumerate(chosen):
        layout = "plain" if n else "stepped"
        arrays, gs = [lay_out(x, layout) for x in at.xs], [lay_out(g, layout) for g in at.gs]
        ys, grads = _backward(f, arrays, gs, some)
        if not all(np.array_equal(x, b) for x, b in zip([*arrays, *gs], [*at.xs, *at.gs])):
            raise fail(f"{text}: f or its gradient changed an input or a cotangent", "mutation")
        if not same(some, ys, grads):
            again = at.case.vjp(at.xs)
            if not same(set(range(count)), again[0], again[1](at.gs)):
                do = "draw random numbers outside of f and pass them in"
                raise fail(f"{text}: two calls on the same inputs gave different answers", "random", hint=do)
            if n == 0 and same(some, *_backward(f, [np.array(x) for x in at.xs], [np.array(g) for g in at.gs], some)):
                raise fail(f"{text}: strided inputs and cotangents of the same values gave something else", "strided")
            who = numbered("input", some)
            raise fail(f"{text}: gradients differ when only {who} needs one, by backward()", "input alone")
        if owner := shared([grads[i] for i in some] if grads else [], arrays, gs):
            raise fail(f"{text}: {owner}", "aliasing")


def _backward(f: Callable, arrays: Arrays, gs: Arrays, chosen: set) -> tuple[Arrays, Any]:
    """Results, and gradients by ``Tensor.backward``; None where f reaches parameters of its own, whose ``grad`` must
    not change."""
    tensors = [Tensor(x, i in chosen) for i, x in enumerate(arrays)]
    outputs = f(*tensors)
    used = [(y, Tensor(g if g.dtype == y.dtype else g.astype(y.dtype))) for y, g in zip(outputs, gs) if y.requires_grad]
    ys = [y.numpy() for y in outputs]
    own = {id(x) for x in tensors}
    if any(isinstance(k, Tensor) and id(k) not in own for k in toposort([key(y) for y, _ in used])):
        return ys, None
    for n, (y, g) in enumerate(used):
        y.backward(g, retain_graph=n < len(used) - 1)
    return ys, [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in tensors]


def _forward_over_reverse(first: Outcome, at: Outcome, level: int) -> None:
    """What differentiating the gradient gives must fit itself, without any finite difference.

    The derivative of g -> g J along u is J u, and <g, J u> = <g J, u>. That of x -> g J is a Hessian H, and
    <u H, v> = <v H, u>.
    """
    us = at.gs
    pulled = at.pull(at.gs)
    gradients = at.ys  # of the order below, at the same point
    left = flat([a * b for a, b in zip(at.xs[len(us) :], pulled[len(us) :])])
    right = flat([a * b for a, b in zip(gradients, us)])
    text = f"order {level} at inputs {shapes(first.xs)}"
    exact = 1e-9 if at.dtype == "float64" else 1e-3
    if abs(left.sum() - right.sum()) > exact * (abs(left).sum() + abs(right).sum()) + 1e-12:
        raise fail(
            f"{text}: <g, J u> by forward over reverse is {left.sum():.12g}, <g J, u> is {right.sum():.12g}",
            "second derivative",
        )
    vs = draw(np.random.default_rng(level), us)
    one = flat([a * v for a, v in zip(pulled, vs)])
    two = flat([a * u for a, u in zip(at.pull(vs), us)])
    if abs(one.sum() - two.sum()) > exact * (abs(one).sum() + abs(two).sum()) + 1e-12:
        raise fail(
            f"{text}: the second derivative is not symmetric: <u H, v> = {one.sum():.12g}, <v H, u> = {two.sum():.12g}",
            "second derivative",
        )


__all__ = ["GradientError", "check_grad"]
