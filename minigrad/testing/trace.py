"""Floor 6: functions of tensors as cases, and which operation of such a function has the wrong gradient."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigrad.engine import Node, Operation, Tensor, anomaly, apply, detect_anomaly, no_grad, observe, toposort, vjp
from minigrad.engine.backward import key, pull_back
from minigrad.engine.tree import leaves
from minigrad.errors import AnomalyError, ShapeError
from minigrad.kernels import BACKENDS, devices
from minigrad.testing.compare import Arrays, Case, Outcome, examine, finite
from minigrad.testing.report import shapes

SECONDS = 5.0  # so long the operations of a graph are gone through


def of_tensors(f: Callable, xs: Arrays) -> Case:
    """A function of tensors that returns a tuple of them, as a function of arrays."""

    def values(arrays: Sequence[Any]) -> Arrays:
        with no_grad():
            return [y.numpy() for y in f(*[Tensor(np.asarray(x)) for x in arrays])]

    def with_pull(arrays: Sequence[Any]) -> tuple[Arrays, Callable]:
        tensors = [Tensor(np.array(x), True) for x in arrays]
        outputs = f(*tensors)

        def pull(gs: Sequence[Any]) -> Arrays:
            given = [None if g is None else Tensor(np.array(g, y.dtype)) for g, y in zip(gs, outputs)]
            got = pull_back(outputs, given, tensors)
            return [np.zeros(x.shape) if c is None else c.numpy() for c, x in zip(got, tensors)]

        return [y.numpy() for y in outputs], pull

    return Case(values, with_pull, xs)


def derivative(f: Callable, count: int) -> Callable:
    """(xs, gs) -> the gradients, as a function that can be differentiated again."""

    def gradients(*args: Tensor) -> tuple:
        ys, pull = vjp(f, *args[:count])
        return tuple(pull([g if g.dtype == y.dtype else g.astype(y.dtype) for g, y in zip(args[count:], ys)]))

    return gradients


@contextmanager
def in_float64(f: Any) -> Iterator[None]:
    """The parameters of a Module are float64 meanwhile, and afterwards what they were."""
    parameters = f.parameters() if callable(getattr(f, "parameters", None)) else []
    before = [(p, p.data) for p in parameters if isinstance(p, Tensor) and p.device in devices()]
    for p, data in before:
        p.data = BACKENDS[type(data)].from_numpy(p.numpy().astype(np.float64))
    try:
        yield
    finally:
        for p, data in before:
            p.data = data


def graph(f: Callable, xs: Arrays) -> list[Node]:
    """The uses of operations that f records, in their order, with their lines."""
    with detect_anomaly():  # notes the source lines
        outputs = f(*[Tensor(np.array(x), True) for x in xs])
    roots = [key(y) for y in outputs if y.requires_grad]
    return sorted((k for k in toposort(roots) if isinstance(k, Node)), key=lambda node: node.serial)


def cancelled(f: Callable, xs: Arrays, at: Outcome) -> bool:
    """Whether rounding of what f computes on the way explains a difference as small as this."""
    made = [a for node in graph(f, xs) for a in (node.out if isinstance(node.out, tuple) else (node.out,))]
    outs = [BACKENDS[type(a)].to_numpy(a) for a in made]
    most = max((float(abs(a).max(initial=0)) for a in outs if a.dtype.kind == "f"), default=0.0)
    return abs(at.analytic - at.numerical) <= 1e-12 * most * at.natural


def named(name: str, inputs: Sequence[Tensor], where: str) -> str:
    """An operation in words, with the line that called it."""
    line = where if where and "hypothesis" not in where else "a line inside minigrad"
    return f"'{name}' of {shapes(inputs)} at {line}"


def no_rule(f: Callable, xs: Arrays) -> str:
    """Which operation of f has no gradient rule at all, if one is used on what needs a gradient."""
    found: list[str] = []

    def look(op: Operation, inputs: tuple[Tensor, ...], attrs: dict[str, Any], out: Any) -> None:
        floats = any(y.dtype.kind == "f" for y in leaves(out))
        if op.vjp is None and floats and any(x.requires_grad for x in inputs):
            found.append(f"{named(op.name, inputs, anomaly.caller())} has no gradient rule")

    with observe(look):
        f(*[Tensor(np.array(x), True) for x in xs])
    return found[0] if found else ""


def broken_rule(f: Callable, xs: Arrays, order: int, error: Exception) -> tuple[str, str, list[str]] | None:
    """The operation whose rule raises, or gives what does not fit the input: headline, cause, details."""
    try:
        nodes = graph(f, xs)
    except Exception:  # f itself fails, which is no matter of gradients
        return None
    for node in nodes:
        one, arrays = _alone(node)
        g: Callable = one
        for _ in range(order):
            case = of_tensors(g, arrays)
            try:
                ys, pull = case.vjp(arrays)
                pull(gs := [np.ones(y.shape) for y in ys])
            except Exception as again:
                which = named(node.op.name, node.inputs or (), getattr(node, "where", ""))
                cause = "unbroadcast" if isinstance(again, ShapeError) else "structure"
                said = f"check_grad at inputs {shapes(xs)}: the gradient rule of {which} fails"
                return said, cause, [f"{type(again).__name__}: {again}"]
            g, arrays = derivative(g, len(arrays)), [*arrays, *gs]
    return None


def first_wrong_operation(f: Callable, xs: Arrays, order: int) -> list[str]:
    """Of the operations that f records, in the order of their use, the first whose own gradient is wrong.

    Each is compared alone, on the arrays it had, with numerical derivatives up to ``order``.
    """
    try:
        nodes = graph(f, xs)
    except AnomalyError as error:
        return [str(error)]
    end = time.monotonic() + SECONDS
    for n, node in enumerate(nodes):
        if time.monotonic() > end:
            return [f"the first {n} of {len(nodes)} operations are right; the others were not looked at"]
        if wrong := _wrong(node, order):
            which = (
                "the only operation" if len(nodes) == 1 else f"operation {n + 1} of {len(nodes)}, the first wrong one"
            )
            return [f"{which}: {named(node.op.name, node.inputs or (), getattr(node, 'where', ''))}{wrong}"]
    return []


def _alone(node: Node) -> tuple[Callable, Arrays]:
    """One operation as a function of its float inputs, and the arrays that it had."""
    inputs = list(node.inputs or ())
    chosen = [i for i, x in enumerate(inputs) if x.dtype.kind == "f" and x.device in devices()]

    def alone(*ts: Tensor) -> tuple:
        given = list(inputs)
        for i, t in zip(chosen, ts):
            given[i] = t.to(inputs[i].device)
        out = leaves(apply(node.op, tuple(x if i in chosen else x.detach() for i, x in enumerate(given)), node.attrs))
        return tuple(y.to("cpu") for y in out if y.dtype.kind == "f")

    arrays = [node.arrays[i] for i in chosen]
    return alone, [np.array(BACKENDS[type(a)].to_numpy(a), np.float64) for a in arrays]


def _wrong(node: Node, order: int) -> str:
    """What is wrong with one operation, on the arrays that it had."""
    g, xs = _alone(node)
    rng = np.random.default_rng(0)
    for level in range(1, order + 1):
        try:
            at = examine(of_tensors(g, xs), rng, level, 0.01)
        except Exception as error:  # its rule fails
            return f": {type(error).__name__}: {error}"
        if at.outside or not finite(at.grads) or (at.settled and not at.agrees):
            return f", wrong in its derivative of order {level}" if level > 1 else ": its own gradient is wrong"
        if not at.settled:
            return ""
        g, xs = derivative(g, len(at.xs)), [*at.xs, *at.gs]
    return ""
