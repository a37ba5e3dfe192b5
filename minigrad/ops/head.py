"""Floor 4: a linear layer and the cross-entropy of its logits as one operation, without the logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.engine import Operation, Tensor, apply, is_recording
from minigrad.engine.backward import by_definition
from minigrad.errors import DtypeError, ShapeError, describe
from minigrad.kernels import BACKENDS
from minigrad.ops.elementwise import mul
from minigrad.ops.linalg import linear
from minigrad.ops.losses import GROUP, _check_reduction, _cross_entropy_oracle, _targets, cross_entropy
from minigrad.ops.record import REAL, case, operation
from minigrad.ops.shapes import as_tensors

_TARGETS = np.array([[2, 0, 3], [1, -100, 0]])


def _oracle(x: np.ndarray, w: np.ndarray, t: Any, b: Any = None, **options: Any) -> np.ndarray:
    return _cross_entropy_oracle(x @ w.T + (0 if b is None else b), t, **options)


def _operands(x: Any, weight: Any, bias: Any) -> tuple[Tensor, ...]:
    found = as_tensors("linear_cross_entropy", *(t for t in (x, weight, bias) if t is not None))
    if {t.dtype for t in found} not in ({np.dtype("float32")}, {np.dtype("float64")}):
        got = " and ".join(str(t.dtype) for t in found)
        do = "cast with .astype()"
        raise DtypeError(describe("linear_cross_entropy", got, "all of float32 or all of float64", do))
    shapes = [t.shape for t in found]
    if not shapes[0] or len(shapes[1]) != 2 or shapes[0][-1] != shapes[1][1] or shapes[2:] not in ([], [shapes[1][:1]]):
        got = ", ".join(f"{name} {shape}" for name, shape in zip(("x", "weight", "bias"), shapes))
        raise ShapeError(describe("linear_cross_entropy", got, "x (..., H), weight (V, H), bias (V,)"))
    return tuple(found)


@operation("-log softmax(x W^T + b)[target], the mean over targets", _oracle,
           case((2, 3, 5), (4, 5), _TARGETS, (4,)), case((3, 5), (4, 5), _TARGETS[0], None, label_smoothing=0.1),
           case((2, 3, 5), (4, 5), _TARGETS, (4,), reduction="none"), case((5,), (4, 5), np.array(3)),
           case((3, 5), (4, 5), _TARGETS[0], (4,), reduction="sum", ignore_index=0), domain=(REAL, REAL, REAL),
           group=GROUP)  # fmt: skip
def linear_cross_entropy(x: Any, weight: Any, targets: Any, bias: Any = None, *, ignore_index: int = -100,
                         label_smoothing: float = 0.0, reduction: str = "mean") -> Tensor:  # fmt: skip
    """``cross_entropy(linear(x, weight, bias), targets)`` in nats: x (..., H), weight (V, H), integer targets (...).

    The logits (..., V) never exist whole: rows are taken in blocks, and for "mean" and "sum" the gradients come from
    the same pass, as dL/dlogits = (softmax - target) times one number (Hsu et al. 2024, "Liger kernel"; Wijmans et al.
    2024, "Cut your losses in large-vocabulary language models").

    >>> import minigrad as mg
    >>> mg.linear_cross_entropy(mg.tensor([[1.0]]), mg.tensor([[2.0], [2.0]]), [1])
    tensor(0.6931)
    """
    where = "linear_cross_entropy"
    _check_reduction(where, reduction)
    operands = _operands(x, weight, bias)
    shape, classes = operands[0].shape[:-1], operands[1].shape[0]
    got = f"x {operands[0].shape}, weight {operands[1].shape}"
    found, valid = _targets(where, got, "x (..., H), weight (V, H)", targets, shape, classes, ignore_index)
    found = found.astype(np.int64, copy=False)  # the kernel knows no other

    def definition(*operands: Tensor) -> Tensor:
        return cross_entropy(linear(*operands), np.where(valid, found, ignore_index), ignore_index=ignore_index,
                             label_smoothing=label_smoothing, reduction=reduction)  # fmt: skip

    k = BACKENDS[type(operands[0].data)]
    if not hasattr(k, where):
        return definition(*operands)
    wanted = [is_recording() and t.requires_grad for t in operands] + [False]

    def blocks(arrays: Any, weights: np.ndarray, wanted: list[bool]) -> tuple[Any, list[Any]]:
        x, w, *b = arrays
        rows, weights = k.reshape(x, (math.prod(shape), x.shape[-1])), weights.astype(x.dtype).ravel()
        return k.linear_cross_entropy(rows, w, b[0] if b else None, found.ravel(), weights, label_smoothing, wanted)

    def forward(k: Any, *arrays: Any, known: list[Any]) -> Any:
        if reduction == "none":
            return k.reshape(blocks(arrays, valid, [False] * 3)[0], shape)
        losses, known[:] = blocks(arrays, valid / max(valid.sum(), 1) if reduction == "mean" else valid, wanted)
        return k.reshape(k.reduce("sum", losses, (0,)), ())

    def rule(g: Tensor, y: Tensor, *inputs: Tensor, known: list[Any]) -> list[Tensor | None]:
        if is_recording():  # a derivative of this derivative may be wanted: differentiate the definition
            return by_definition([definition(*inputs)], [g], inputs)
        if reduction == "none":
            arrays, own = blocks([x.data for x in inputs], np.where(valid, g.numpy(), 0), wanted)[1], True
        else:
            arrays, own = known[:3], g.item() == 1 and len(known) == 3
            known.append("given")  # to somebody, maybe: the next backward takes copies
        found = [d if d is None or d.shape == x.shape else k.reshape(d, x.shape) for x, d in zip(inputs, arrays)]
        return [None if d is None else Tensor(d) if own else mul(Tensor(d), g) for d in found]

    return apply(Operation(where, forward, rule), operands, {"known": []})
