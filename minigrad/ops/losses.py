"""Floor 4: softmax and its relatives, losses from logits, dropout by a given mask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.engine import Operation, Tensor, apply
from minigrad.errors import DtypeError, IndexingError, ShapeError, describe
from minigrad.ops.elementwise import add, exp, mul, neg, softplus, square, sub, where
from minigrad.ops.indexing import pick
from minigrad.ops.record import REAL, case, operation
from minigrad.ops.reductions import Axis, _prepare, mean, sum
from minigrad.ops.shapes import as_tensor, as_tensors, moveaxis, normalise_axis, reshape, transpose

GROUP = "Softmax and losses"

_SOFTMAX = Operation(
    "softmax", lambda k, x: k.rows("softmax", x), (lambda g, y, x: mul(y, sub(g, sum(mul(g, y), -1, keepdims=True))),)
)
_LOG_SOFTMAX = Operation(
    "log_softmax",
    lambda k, x: k.rows("log_softmax", x),
    (lambda g, y, x: sub(g, mul(exp(y), sum(g, -1, keepdims=True))),),
)
_LOGSUMEXP = Operation("logsumexp", lambda k, x: k.rows("logsumexp", x), (lambda g, y, x: mul(g, exp(sub(x, y))),))
_CASES = (case((3, 4)), case((2, 3, 4), axis=1), case((5,)), case((0, 3)), case((2, 1)))


def _lse(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))


def _along_last(op: Operation, x: Any, axis: int) -> Tensor:
    x, _ = _prepare(op.name, x, None)
    if x.ndim == 0:
        raise ShapeError(describe(op.name, "a tensor without axes", "one axis at least"))
    axis = normalise_axis(op.name, axis, x.ndim)
    if x.shape[axis] == 0:
        raise ShapeError(describe(op.name, f"shape {x.shape} along axis {axis}", "one element at least"))
    if axis == x.ndim - 1:
        return apply(op, (x,))
    return moveaxis(apply(op, (moveaxis(x, axis, -1),)), -1, axis)


@operation("e^x_i / sum_j e^x_j", lambda x, axis=-1: np.exp(x - _lse(x, axis, True)), *_CASES, group=GROUP, op=_SOFTMAX)
def softmax(x: Any, axis: int = -1) -> Tensor:
    """Positive, with sum 1 along ``axis``; large x do not overflow.

    >>> import minigrad as mg
    >>> mg.softmax(mg.tensor([0.0, 0.0]))
    tensor([0.5, 0.5])
    """
    return _along_last(_SOFTMAX, x, axis)


@operation("x_i - log sum_j e^x_j", lambda x, axis=-1: x - _lse(x, axis, True), *_CASES, group=GROUP, op=_LOG_SOFTMAX)
def log_softmax(x: Any, axis: int = -1) -> Tensor:
    return _along_last(_LOG_SOFTMAX, x, axis)


@operation("log sum e^x over axes", _lse, case((3, 4)), case((3, 4), axis=0),
           case((2, 3, 4), axis=(0, 2), keepdims=True), case((5,), axis=-1), group=GROUP, op=_LOGSUMEXP)  # fmt: skip
def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    x, axes = _prepare("logsumexp", x, axis)
    rest = [a for a in range(x.ndim) if a not in axes]
    n = math.prod(x.shape[a] for a in axes)
    if n == 0:
        raise ShapeError(describe("logsumexp", f"shape {x.shape} over axes {axes}", "one element at least"))
    rows = reshape(transpose(x, [*rest, *axes]), (*[x.shape[a] for a in rest], n))
    shape = tuple(1 if a in axes else m for a, m in enumerate(x.shape)) if keepdims else tuple(x.shape[a] for a in rest)
    return reshape(apply(_LOGSUMEXP, (rows,)), shape)


# ------------------------------------------------------------------------------------------------ losses


def _check_reduction(where_: str, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(describe(where_, f"reduction={reduction!r}", "'mean', 'sum' or 'none'"))


def _reduced(losses: Tensor, reduction: str, count: float) -> Tensor:
    if reduction == "none":
        return losses
    total = sum(losses)
    return mul(total, 1.0 / max(count, 1)) if reduction == "mean" else total


def _targets(where_: str, given: str, expected: str, targets: Any, shape: tuple[int, ...], classes: int,
             ignore_index: int) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Checked targets with 0 in place of the ignored ones, and which are not ignored."""
    found = targets.numpy() if isinstance(targets, Tensor) else np.asarray(targets)
    if found.dtype.kind not in "iu":
        raise DtypeError(describe(where_, f"targets of dtype {found.dtype}", "integers"))
    if not classes or found.shape != shape:
        expected = f"{expected}, targets (...), V at least 1"
        raise ShapeError(describe(where_, f"{given}, targets {found.shape}", expected))
    valid = found != ignore_index
    inside = found[valid]
    if inside.size and not 0 <= inside.min() <= inside.max() < classes:
        got = f"targets from {inside.min()} to {inside.max()}"
        raise IndexingError(describe(where_, got, f"0 <= target < {classes}, or {ignore_index}"))
    return np.where(valid, found, 0), valid


_TARGETS = np.array([[2, 0, 3], [1, -100, 0]])


def _cross_entropy_oracle(x: np.ndarray, t: Any, *, ignore_index: int = -100, label_smoothing: float = 0.0,
                          reduction: str = "mean") -> np.ndarray:  # fmt: skip
    logp = x - _lse(x, -1, True)
    valid = t != ignore_index
    hot = np.eye(x.shape[-1])[np.where(valid, t, 0)]
    losses = -((hot * (1 - label_smoothing) + label_smoothing / x.shape[-1]) * logp).sum(-1) * valid
    return losses if reduction == "none" else losses.sum() / (max(valid.sum(), 1) if reduction == "mean" else 1)


@operation("-log softmax(x)[target], the mean over targets", _cross_entropy_oracle, case((2, 3, 4), _TARGETS),
           case((3, 4), _TARGETS[0], label_smoothing=0.1), case((2, 3, 4), _TARGETS, reduction="none"),
           case((3, 4), _TARGETS[0], reduction="sum", ignore_index=0), group=GROUP)  # fmt: skip
def cross_entropy(logits: Any, targets: Any, *, ignore_index: int = -100, label_smoothing: float = 0.0,
                  reduction: str = "mean") -> Tensor:  # fmt: skip
    """Negative log-likelihood in nats of integer ``targets`` (...) under ``logits`` (..., V).

    With smoothing e, the target has weight 1 - e + e/V and every other class e/V. Targets equal to
    ``ignore_index`` count nothing.

    >>> import minigrad as mg
    >>> mg.cross_entropy(mg.tensor([[0.0, 0.0]]), [1])
    tensor(0.6931)
    """
    _check_reduction("cross_entropy", reduction)
    logits, _ = _prepare("cross_entropy", logits, None)
    classes = logits.shape[-1] if logits.ndim else 0
    found, valid = _targets("cross_entropy", f"logits {logits.shape}", "logits (..., V)", targets, logits.shape[:-1],
                            classes, ignore_index)  # fmt: skip
    logp = log_softmax(logits)  # (..., V)
    losses = neg(pick(logp, found))  # (...)
    if label_smoothing:
        losses = add(mul(losses, 1.0 - label_smoothing), mul(mean(logp, -1), -label_smoothing))
    if not valid.all():
        losses = where(valid, losses, 0.0)
    return _reduced(losses, reduction, int(valid.sum()))


@operation("-t log s(x) - (1 - t) log(1 - s(x)), s the sigmoid",
           lambda x, t: np.mean(np.logaddexp(0, x) - x * t), case((3, 4), (3, 4)), case((5,), (5,)),
           domain=(REAL, (0.0, 1.0)), group=GROUP)  # fmt: skip
def binary_cross_entropy(logits: Any, targets: Any, *, reduction: str = "mean") -> Tensor:
    """From logits: log(1 + e^x) - x t, for targets t in [0, 1] of the same shape."""
    _check_reduction("binary_cross_entropy", reduction)
    logits = as_tensor("binary_cross_entropy", logits)
    targets = targets if isinstance(targets, Tensor) else logits.beside(np.asarray(targets, logits.dtype))
    if logits.shape != targets.shape:
        got = f"logits {logits.shape}, targets {targets.shape}"
        raise ShapeError(describe("binary_cross_entropy", got, "equal shapes"))
    return _reduced(sub(softplus(logits), mul(logits, targets)), reduction, logits.size)


@operation("(x - t)^2, the mean", lambda x, t: np.mean((x - t) ** 2), case((3, 4), (3, 4)), case((), ()),
           domain=(REAL, REAL), group=GROUP)  # fmt: skip
def mse(x: Any, targets: Any, *, reduction: str = "mean") -> Tensor:
    _check_reduction("mse", reduction)
    x, targets = as_tensors("mse", x, targets)
    if x.shape != targets.shape:
        raise ShapeError(describe("mse", f"{x.shape} and {targets.shape}", "equal shapes"))
    return _reduced(square(sub(x, targets)), reduction, x.size)


_KEEP = np.array([[1.0, 0.0, 1.0]], np.float32)


@operation("x mask / (1 - p)", lambda x, mask, p: x * mask / (1 - p), case((2, 3), _KEEP, 0.25),
           case((3,), _KEEP[0], 0.0), group=GROUP)  # fmt: skip
def dropout(x: Any, mask: Any, p: float) -> Tensor:
    """x where ``mask`` (0 or 1, broadcast to x) is 1, scaled so that the mean stays; the mask is an input."""
    if not 0.0 <= p < 1.0:
        raise ValueError(describe("dropout", f"p={p}", "0 <= p < 1"))
    x = as_tensor("dropout", x)
    mask = mask if isinstance(mask, Tensor) else x.beside(np.asarray(mask, x.dtype))
    return mul(x, mul(mask, 1.0 / (1.0 - p)))
