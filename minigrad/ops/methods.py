"""Floor 4: the operators and methods of Tensor, each the public function of that name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.engine import Operation, Tensor, apply, tensor
from minigrad.errors import DtypeError, describe
from minigrad.kernels import named
from minigrad.ops import elementwise as e
from minigrad.ops import indexing, linalg, losses, reductions, shapes


def _right(function: Any) -> Any:
    """The reflected operator: ``2.0 - x``."""
    return lambda self, other: function(other, self)


_CAST = Operation(
    "astype", lambda k, x, dtype: k.astype(x, dtype), (lambda g, y, x, dtype: apply(_CAST, (g,), {"dtype": x.dtype}),)
)
_CAST_AWAY = Operation("astype", lambda k, x, dtype: k.astype(x, dtype))  # to or from a dtype without gradients


def astype(x: Tensor, dtype: Any) -> Tensor:
    """The values in another dtype; the gradient comes back in the old one."""
    to = np.dtype(dtype)
    if to not in (np.float32, np.float64, np.int64, np.bool_):
        raise DtypeError(describe("astype", str(to), "float32, float64, int64 or bool"))
    if to == x.dtype:
        return x
    return apply(_CAST if to.kind == x.dtype.kind == "f" else _CAST_AWAY, (x,), {"dtype": to})


_TO = Operation("to", lambda k, x, device: named(device).from_numpy(k.to_numpy(x)),
                (lambda g, y, x, device: to(g, x.device),))  # fmt: skip


def to(self: Tensor, device: str) -> Tensor:
    """The same values on another device; the gradient comes back to the old one."""
    return self if self.device == device else apply(_TO, (self,), {"device": device})


def _iterate(self: Tensor) -> Iterator[Tensor]:
    len(self)
    return iter(shapes.unstack(self))


def _reshape(self: Tensor, *shape: Any) -> Tensor:
    return shapes.reshape(self, *shape)


def _transpose(self: Tensor, *axes: Any) -> Tensor:
    return shapes.transpose(self, (axes[0] if axes and not isinstance(axes[0], shapes.INTEGER) else axes) or None)


def _argmax(self: Tensor, axis: int | None = None) -> Tensor:
    """Position of the first largest element, an integer tensor without gradient."""
    return tensor(np.argmax(self.numpy(), axis), device=self.device)


_OPERATORS = {
    "add": e.add, "sub": e.sub, "mul": e.mul, "truediv": e.div, "pow": e.pow, "matmul": linalg.matmul,
}  # fmt: skip
_COMPARISONS = {
    "eq": e.equal, "ne": e.not_equal, "lt": e.less, "le": e.less_equal, "gt": e.greater, "ge": e.greater_equal,
}  # fmt: skip
_METHODS = (
    *(getattr(e, name) for name in e.__all__ if name not in ("where", "share", "step")),
    reductions.sum, reductions.mean, reductions.var, reductions.max, reductions.min, reductions.prod, reductions.cumsum,
    losses.logsumexp, losses.softmax, losses.log_softmax,
    shapes.swapaxes, shapes.broadcast_to, shapes.squeeze, shapes.expand_dims, shapes.flip, shapes.split, shapes.unstack,
    linalg.matmul, astype, to,
)  # fmt: skip
_OTHERS = {
    "__neg__": e.neg, "__abs__": e.abs, "__getitem__": indexing.getitem, "__iter__": _iterate,
    "__hash__": object.__hash__, "reshape": _reshape, "transpose": _transpose, "permute": _transpose, "argmax": _argmax,
    "mT": property(linalg.matrix_transpose),
    "T": property(lambda self: linalg.matrix_transpose(self) if self.ndim == 2 else shapes.transpose(self)),
}  # fmt: skip


def attach() -> None:
    """Give Tensor its operators and methods."""
    for name, function in _OPERATORS.items():
        setattr(Tensor, f"__{name}__", (lambda f: lambda self, other: f(self, other))(function))
        setattr(Tensor, f"__r{name}__", _right(function))
    for name, function in _COMPARISONS.items():
        setattr(Tensor, f"__{name}__", (lambda f: lambda self, other: f(self, other))(function))
    for function in _METHODS:
        setattr(Tensor, function.__name__, function)
    for name, value in _OTHERS.items():
        setattr(Tensor, name, value)
