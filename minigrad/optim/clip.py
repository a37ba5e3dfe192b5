"""Floor 5: two ways to keep gradients small, which are not the same: by the norm of all, and one by one.

By norm the direction stays; by value it may turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from minigrad.engine import Tensor, no_grad
from minigrad.errors import describe
from minigrad.kernels import BACKENDS
from minigrad.ops import clip


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by max_norm / norm if their joint Euclidean norm is larger; returns the norm before. If that
    is NaN or Inf the gradients stay as they are: no factor repairs them, so look at it.

    >>> import minigrad as mg
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> mg.optim.clip_grad_norm_([w], 1.0), w.grad
    (10.0, tensor([0.6, 0.8]))
    """
    if not max_norm > 0:
        raise ValueError(describe("clip_grad_norm_", f"max_norm={max_norm}", "a positive number"))
    with_grad = [(p, p.grad) for p in parameters if p.grad is not None]
    kinds: dict[type, list] = {}  # one look at a device for all of its gradients
    for _, g in with_grad:
        kinds.setdefault(type(g.data), []).append(g.data)
    norm = math.sqrt(sum([BACKENDS[kind].squares(*found) for kind, found in kinds.items()]))
    if norm > max_norm and math.isfinite(norm):
        for p, g in with_grad:
            p.grad = Tensor(BACKENDS[type(g.data)].scaled(g.data, max_norm / norm))
    return norm


def clip_grad_value_(parameters: Iterable[Tensor], max_value: float) -> None:
    """Each element of each gradient into [-max_value, max_value]; Inf becomes the bound, NaN stays NaN.

    >>> import minigrad as mg
    >>> w = mg.tensor([3.0, 0.1], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> mg.optim.clip_grad_value_([w], 1.0)
    >>> w.grad
    tensor([1. , 0.2])
    """
    if not max_value > 0:
        raise ValueError(describe("clip_grad_value_", f"max_value={max_value}", "a positive number"))
    with no_grad():
        for p in parameters:
            if p.grad is not None:
                p.grad = clip(p.grad, -max_value, max_value)
