"""Floor 6: whether what a backward returns has the containers and the shapes of the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from minigrad.engine.tree import leaves
from minigrad.testing.compare import Arrays
from minigrad.testing.report import fail


def gradients(name: str, found: Any, inputs: Sequence[Any], xs: Sequence[Any], out: Any) -> Arrays:
    """The gradients one after the other; GradientError unless they are as many as the inputs, and of their shapes."""
    single = len(inputs) == 1
    if single and isinstance(found, (tuple, list)) and not isinstance(inputs[0], (tuple, list)):
        given = list(found)
    else:
        given = [found] if single else list(found) if isinstance(found, (tuple, list)) else [found]
    if len(given) != len(inputs):
        got = f"{name}: backward returned {len(given)} gradients for {len(inputs)} inputs"
        raise fail(got, "structure", hint="return one for each input, in their order; None for zero")
    grads: list[Any] = []
    for i, (a, x) in enumerate(zip(given, inputs)):
        grads += _fitted(name, f"the gradient of argument {i}", a, x)
    for i, (a, x) in enumerate(zip(grads, xs)):
        grads[i] = a = np.zeros(x.shape) if a is None else np.asarray(a)
        if a.dtype.kind != "f":
            got = f"{name}: the gradient of input {i} has dtype {a.dtype}"
            raise fail(got, "structure", hint="return floats")
        if a.shape != x.shape:
            raise wrong_shape(name, i, a.shape, x.shape, leaves(out))
    return grads


def _parts(x: Any) -> dict[Any, Any] | None:
    """The members of a container, in the order of its leaves; None for anything else."""
    if isinstance(x, (tuple, list)):
        return dict(enumerate(x))
    members = vars(x) if isinstance(x, SimpleNamespace) else x if isinstance(x, dict) else None
    return None if members is None else {k: members[k] for k in sorted(members)}


def _fitted(name: str, what: str, a: Any, x: Any) -> list[Any]:
    """The leaves of ``a``, in the containers of x; None, for zero, once for every leaf of x."""
    if x is None:
        return []
    if a is None:
        return [None] * len(leaves(x))
    parts, got = _parts(x), _parts(a)
    if parts is None and got is None:
        return [a]
    kinds = [type(y).__name__ for y in (a, x)]
    if parts is None or got is None or isinstance(x, (tuple, list)) != isinstance(a, (tuple, list)):
        text = f"{name}: {what} is {kinds[0]}, the argument is {kinds[1]}"
        raise fail(text, "structure", hint="return the same containers as the input's")
    for k in [*parts, *got]:
        if k not in got or k not in parts:
            text = f"{name}: {what} {'lacks' if k in parts else 'has, and the argument has not,'} {k!r}"
            raise fail(text, "structure", hint="return a gradient for each part of the argument, None for zero")
    return [leaf for k, part in parts.items() for leaf in _fitted(name, f"{what}, at {k!r},", got[k], part)]


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
