"""Floor 6: functions of tensors as cases, and which operation of such a function has the wrong gradient."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.engine import Node, Tensor, apply, detect_anomaly, no_grad, toposort, vjp
from minigrad.engine.backward import key, pull_back
from minigrad.engine.tree import leaves
from minigrad.errors import AnomalyError
from minigrad.testing.compare import Arrays, Case, examine
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
    return lambda *args: tuple(vjp(f, *args[:count])[1](args[count:]))


def first_wrong_operation(f: Callable, xs: Arrays, order: int) -> list[str]:
    """Of the operations that f records, in the order of their use, the first whose own gradient is wrong.

    Each is compared alone, on the arrays it had, with numerical derivatives up to ``order``.
    """
    tensors = [Tensor(np.array(x), True) for x in xs]
    try:
        with detect_anomaly():  # notes the source lines
            outputs = f(*tensors)
    except AnomalyError as error:
        return [str(error)]
    roots = [key(y) for y in outputs if y.requires_grad]
    nodes = sorted((k for k in toposort(roots) if isinstance(k, Node)), key=lambda node: node.serial)
    end = time.monotonic() + SECONDS
    for n, node in enumerate(nodes):
        if time.monotonic() > end:
            return [f"the first {n} of {len(nodes)} operations are right; the others were not looked at"]
        if wrong := _wrong(node, order):
            where = getattr(node, "where", "") or "a line inside minigrad"
            which = (
                "the only operation" if len(nodes) == 1 else f"operation {n + 1} of {len(nodes)}, the first wrong one"
            )
            name = f"'{node.op.name}' of {shapes(node.inputs or ())}"
            return [f"{which}: {name} at {where}{wrong}"]
    return []


def _wrong(node: Node, order: int) -> str:
    """What is wrong with one operation, on the arrays that it had."""
    inputs = list(node.inputs or ())
    chosen = [i for i, x in enumerate(inputs) if x.dtype.kind == "f" and isinstance(x.data, np.ndarray)]

    def alone(*ts: Tensor) -> tuple:
        given = list(inputs)
        for i, t in zip(chosen, ts):
            given[i] = t
        out = leaves(apply(node.op, tuple(x if i in chosen else x.detach() for i, x in enumerate(given)), node.attrs))
        return tuple(y for y in out if y.dtype.kind == "f")

    g: Callable = alone
    xs = [np.array(node.arrays[i], np.float64) for i in chosen]
    rng = np.random.default_rng(0)
    for level in range(1, order + 1):
        at = examine(of_tensors(g, xs), rng, level, 0.01)
        if at.outside or (at.settled and not at.agrees):
            return f", wrong in its derivative of order {level}" if level > 1 else ": its own gradient is wrong"
        if not at.settled:
            return ""
        g, xs = derivative(g, len(at.xs)), [*at.xs, *at.gs]
    return ""
