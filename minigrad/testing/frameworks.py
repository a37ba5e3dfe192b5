"""Floor 6: functions written with torch, JAX or autograd, for ``check_vjp``. Each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.engine.tree import tree_map


def from_torch(f: Callable) -> tuple[Callable, Callable]:
    """``forward, backward`` of a function of torch tensors, for ``check_vjp(*from_torch(f), *inputs)``.

    >>> check_vjp(*from_torch(torch.tanh), np.ones(3))  # doctest: +SKIP
    """
    import torch

    def run(xs: tuple[Any, ...]) -> tuple[list[Any], Any, bool]:
        ts = [torch.tensor(np.ascontiguousarray(x), requires_grad=True) for x in xs]
        out = f(*ts)
        return ts, out, isinstance(out, (tuple, list))

    def forward(*xs: Any) -> Any:
        _, out, many = run(xs)
        return tuple(y.detach().numpy() for y in out) if many else out.detach().numpy()

    def backward(g: Any, *xs: Any) -> Any:
        ts, out, many = run(xs)
        pairs = [(y, torch.tensor(np.ascontiguousarray(c))) for y, c in zip(out if many else [out], g if many else [g])]
        used = [(y, c) for y, c in pairs if y.requires_grad]
        found = torch.autograd.grad([y for y, _ in used], ts, [c for _, c in used], allow_unused=True)
        grads = tuple(np.zeros(np.shape(x)) if a is None else a.numpy().copy() for a, x in zip(found, xs))
        return grads if len(grads) > 1 else grads[0]

    return forward, backward


def from_jax(f: Callable) -> tuple[Callable, Callable]:
    """``forward, backward`` of a function of JAX arrays. For float64 set ``jax_enable_x64`` first.

    >>> check_vjp(*from_jax(jax.numpy.tanh), np.ones(3))  # doctest: +SKIP
    """
    import jax

    def forward(*xs: Any) -> Any:
        return jax.tree_util.tree_map(np.asarray, f(*map(jax.numpy.asarray, xs)))

    def backward(g: Any, *xs: Any) -> Any:
        _, pull = jax.vjp(f, *map(jax.numpy.asarray, xs))
        grads = tuple(np.array(a) for a in pull(jax.tree_util.tree_map(jax.numpy.asarray, g)))
        return grads if len(grads) > 1 else grads[0]

    return forward, backward


def from_autograd(f: Callable) -> tuple[Callable, Callable]:
    """``forward, backward`` of a function written with ``autograd.numpy``, which returns one array or a tuple of them.

    Arguments may be dicts, lists or tuples of arrays.

    >>> check_vjp(*from_autograd(autograd.numpy.tanh), np.ones(3))  # doctest: +SKIP
    """
    from autograd import make_vjp
    from autograd.builtins import tuple as tuple_of  # which it follows, as it does not Python's

    def followed(*xs: Any) -> Any:
        out = f(*xs)
        return tuple_of(out) if isinstance(out, tuple) else out

    def backward(g: Any, *xs: Any) -> Any:
        grads = tuple(tree_map(np.array, make_vjp(followed, i)(*xs)[0](g)) for i in range(len(xs)))
        return grads if len(grads) > 1 else grads[0]

    return f, backward
