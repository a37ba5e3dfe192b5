"""Floor 6: reverse mode of minigrad against numerical derivatives, to any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.engine import Tensor, toposort
from minigrad.engine.backward import key
from minigrad.engine.tree import leaves
from minigrad.errors import GraphError, describe
from minigrad.testing.cause import explain
from minigrad.testing.compare import (
    Arrays,
    Case,
    Outcome,
    direction,
    draw,
    examine,
    inputs_of,
    numbered,
    subsets,
    wrong_alone,
)
from minigrad.testing.layout import lay_out, shared
from minigrad.testing.numeric import flat
from minigrad.testing.report import GradientError, Verdict, fail, shapes
from minigrad.testing.tally import Tally
from minigrad.testing.trace import derivative, first_wrong_operation, of_tensors


def check_grad(f: Callable, *inputs: Any, order: int = 2, seed: int = 0, scale: float = 0.05) -> Verdict:
    """Raise GradientError if a derivative of f at ``inputs``, up to ``order``, is wrong or cannot be judged.

    f:       takes tensors, returns tensors in any containers
    inputs:  arrays or tensors of any shapes, taken as float64
    scale:   the largest step of the numerical derivative

    Along a random direction v with a random cotangent g, ``<g df/dx, v> = <g, (df/dx) v>``; for every order the
    derivative before is checked in the same way. Subsets of inputs and outputs, strided inputs and a second call must
    give the same; inputs stay unchanged and gradients share no memory. At a kink the gradient must lie between the
    slopes to both sides, and the comparison moves to a point nearby. The error names the likely cause, and the
    first operation whose own gradient is wrong; what is returned says how sharp the check was.

    >>> import minigrad as mg, numpy as np
    >>> mg.testing.check_grad(mg.tanh, np.array([0.3, -1.0]))
    right: orders 1 to 2, ... errors above ... would be seen
    """
    xs = inputs_of("check_grad", inputs)
    Tally.checks += 1
    rng = np.random.default_rng(seed)

    def results(*ts: Tensor) -> tuple:
        out = leaves(f(*ts))
        if not all(isinstance(y, Tensor) for y in out) or not out:
            kind = type(next((y for y in out if not isinstance(y, Tensor)), None)).__name__
            do = "compute with minigrad's operations; for other code use check_vjp"
            raise GraphError(describe("check_grad", f"a function that returns {kind}", "tensors", do))
        return tuple(y for y in out if y.dtype.kind == "f")

    g: Callable = results
    found: list[Outcome] = []
    earlier = elsewhere(of_tensors(g, xs), scale)
    for level in range(1, order + 1):
        at = examine(of_tensors(g, xs), rng, level, scale)
        at.earlier = earlier if level == 1 else None
        judge(at, level, lambda: first_wrong_operation(results, at.xs[: len(inputs)], level))
        if level == 1:
            found.append(at)
            _outputs_alone(at)
            _inputs_alone(g, at, rng)
        else:
            _forward_over_reverse(found[-1], at, level)
            found.append(at)
        g, xs = derivative(g, len(at.xs)), [*at.xs, *at.gs]
    return Verdict(
        order,
        len(found),
        max((at.difference for at in found), default=0.0),
        max((at.resolution for at in found), default=0.0),
        any(at.moved for at in found),
    )


def elsewhere(case: Case, scale: float) -> Arrays:
    """Call f and its gradient at a point nearby first: what was saved there must not turn up later."""
    vs = direction(np.random.default_rng(1), case.xs)
    xs = [x + scale * v for x, v in zip(case.xs, vs)]
    ys, pull = case.vjp(xs)
    pull([np.ones(y.shape) for y in ys])
    return xs


def headline(at: Outcome, level: int) -> str:
    where = f" at inputs {shapes(at.xs)}" if level == 1 else f" of inputs and cotangents {shapes(at.xs)}"
    return f"order {level}{where}: reverse mode {at.analytic:.12g}, "


def judge(at: Outcome, level: int, operation: Callable[[], list[str]]) -> None:
    """Raise the error that an outcome deserves, if any."""
    if at.agrees:
        return
    text = headline(at, level)
    if at.outside:
        raise fail(f"{text}at a kink, but {at.outside}", "ties", operation())
    grads_finite = all(np.isfinite(a).all() for a in at.grads)
    if not grads_finite or not all(np.isfinite(y).all() for y in at.ys):
        which = "a gradient" if grads_finite is False else "a result"
        raise fail(f"{text}but {which} is NaN or Inf", "not finite", operation())
    if not at.settled:
        raise fail(
            f"{text}but the numerical derivative, {at.numerical:.12g}, does not settle (+- {at.error:.1g}): there is a "
            f"kink or a jump within {at.scale:g}, or f varies too fast; move the inputs or lower scale",
            "kink",
        )
    ratio = at.analytic / at.numerical if at.numerical else np.inf
    text = f"{text}numerical {at.numerical:.12g} +- {at.error:.1g}, ratio {ratio:.6g}"
    first = operation()
    if level > 1:
        raise fail(text, "second derivative", [*explain(at)[2], *first])
    cause, hint, details = explain(at)
    if not first and cause in ("term", "zero", "factor", "edge"):
        cause, hint = "tape", "every operation passes alone, so look for detach() and for arrays taken out of tensors"
    raise fail(text, cause, [*details, *first], hint)


def _outputs_alone(at: Outcome) -> None:
    """Every result used alone must give the gradient of that result alone."""
    if found := wrong_alone(at):
        some, analytic, numerical, error = found
        raise fail(
            f"order 1 at inputs {shapes(at.xs)}, using {numbered('output', some)} alone: reverse mode {analytic:.12g}, "
            f"numerical {numerical:.12g} +- {error:.1g}",
            "unused output",
            hint="with every output used the gradient is right",
        )


def close(got: Any, expected: Any, around: float) -> bool:
    return got.shape == expected.shape and bool(
        np.all(abs(got - expected) <= 1e-9 * max(abs(expected).max(initial=0), around * 1e-4) + 1e-12)
    )


def _inputs_alone(f: Callable, at: Outcome, rng: np.random.Generator) -> None:
    """``backward`` into some of the inputs, once from strided memory, must give what ``vjp`` gave for all of them."""
    count = len(at.xs)
    chosen = subsets(count, rng)
    around = max([abs(a).max(initial=0) for a in [*at.grads, *at.ys]], default=0.0)
    text = f"order 1 at inputs {shapes(at.xs)}"

    def same(some: set, ys: Arrays, grads: Any) -> bool:
        values = all(close(a, b, around) for a, b in zip(ys, at.ys))
        return values and (grads is None or all(close(grads[i], at.grads[i], around) for i in some))

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
    used = [(y, Tensor(g)) for y, g in zip(outputs, gs) if y.requires_grad]
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
    if abs(left.sum() - right.sum()) > 1e-9 * (abs(left).sum() + abs(right).sum()) + 1e-12:
        raise fail(
            f"{text}: <g, J u> by forward over reverse is {left.sum():.12g}, <g J, u> is {right.sum():.12g}",
            "second derivative",
        )
    vs = draw(np.random.default_rng(level), us)
    one = flat([a * v for a, v in zip(pulled, vs)])
    two = flat([a * u for a, u in zip(at.pull(vs), us)])
    if abs(one.sum() - two.sum()) > 1e-9 * (abs(one).sum() + abs(two).sum()) + 1e-12:
        raise fail(
            f"{text}: the second derivative is not symmetric: <u H, v> = {one.sum():.12g}, <v H, u> = {two.sum():.12g}",
            "second derivative",
        )


__all__ = ["GradientError", "check_grad"]
