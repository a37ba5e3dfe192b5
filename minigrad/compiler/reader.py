"""Floor 4: the operations that a cell used, read as values of one row (``graph.py``).

A parameter is a vector, or a matrix of which only products make sense; a memory is a matrix for each member of the
batch. What a name of the trace stands for is a value, such a matrix, or the gradient of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from minigrad import scalars
from minigrad.compiler.graph import LEAVES, Graph, Matrix, Value
from minigrad.engine import Operation, Tensor
from minigrad.kernels.abstract import Abstract
from minigrad.ops.fuse import Fused


class CannotCompile(Exception):
    """The cell uses something that has no place in a kernel; it runs by its definition."""


@dataclass
class Term:
    """A summand of a parameter's gradient: a^T g over all rows and steps, at rows ``start`` .. of the weight as a
    product sees it; without a, the sum of g over rows and steps. Of a memory: a^T g over the steps of a member."""

    a: Value | None
    g: Value
    start: int = 0


@dataclass
class Gradient:
    """Of a parameter, or of a memory; ``turned`` says that the terms are of its transpose."""

    terms: list[Term]
    turned: bool = False
    memory: bool = False


@dataclass
class Weights:
    """A matrix parameter, or a memory, as the cell holds it at some point."""

    index: int
    turned: bool = False
    width: int = 0  # of a matrix with one row, which may also be meant as a vector
    memory: bool = False  # a state (B, S, A): every member of the batch has a matrix of its own


@dataclass
class Turned:
    """x^T, of which only a product with cotangents makes sense."""

    row: Value


class Reader:
    """Turns noted operations into values; ``found`` maps an abstract array to what it stands for."""

    def __init__(self, batch: int):
        self.batch = batch
        self.graph = Graph()
        self.found: dict[int, Any] = {}
        self.alive: list[Any] = []  # an id is a name only while its array lives
        self.functions = {name: f for name, f in vars(scalars).items() if callable(f)}  # in a kernel a name is unique

    def know(self, t: Tensor, value: Any) -> None:
        self.found[id(t.data)] = value
        self.alive.append(t.data)

    def parameter(self, i: int, t: Tensor) -> Any:
        if t.ndim == 0:
            return self.graph.make("scalar", (), i, 0)
        if t.ndim == 1:
            return self.graph.make("vector", (), i, t.shape[0])
        if t.ndim == 2:
            return Weights(i, width=t.shape[1] if t.shape[0] == 1 else 0)
        raise CannotCompile(f"parameter {i} has {t.ndim} axes")

    def memory(self, i: int, t: Tensor) -> Value:
        """Its rows, a matrix each."""
        return self.graph.make("state", (), i, t.shape[1] * t.shape[2])

    def get(self, t: Tensor) -> Any:
        if id(t.data) in self.found:
            return self.found[id(t.data)]
        value = t.data.value if isinstance(t.data, Abstract) else None
        if not isinstance(t.data, Abstract) and t.size == 1 and not t.requires_grad:
            value = t.item()
        if value is None:
            raise CannotCompile("it uses a tensor from outside; pass it in params")
        return self.graph.constant(value)

    def row(self, t: Tensor) -> Value:
        value = self.get(t)
        if not isinstance(value, Value):
            raise CannotCompile("a weight matrix is used other than in a product")
        return self.graph.spread(value, t.shape[-1]) if t.ndim == 2 else value

    def gradient(self, t: Tensor) -> Gradient:
        value = self.get(t)
        return value if isinstance(value, Gradient) else Gradient([Term(None, value)])

    def read(self, op: Operation, inputs: tuple[Tensor, ...], attrs: dict[str, Any], out: Any) -> None:
        values = [self.get(x) for x in inputs]
        scalar = Fused.scalars.get(op)
        if scalar is not None:
            meant = self.elementwise(scalar, values)
        else:
            method = getattr(self, f"read_{op.name}", None)
            if method is None:
                raise CannotCompile(f"operation '{op.name}'")
            meant = method(values, inputs, out, **attrs)
        for t, value in zip(out, meant) if isinstance(out, tuple) else ((out, meant),):
            self.check(t, value)
            self.know(t, value)

    def check(self, t: Tensor, value: Any) -> None:
        """That a value with more than two axes still is one row for each member of the batch."""
        first, *rest = t.shape or (1,)
        sides = [n for n in rest if n != 1]
        row = len(sides) < 2 and self.batch not in sides and first in (1, self.batch)
        if t.ndim > 2 and isinstance(value, Value) and not row:
            raise CannotCompile(f"an array {t.shape} that is no row of numbers for each member of the batch")

    def elementwise(self, scalar: Callable, values: list[Any]) -> Any:
        if self.functions.setdefault(scalar.__name__, scalar) is not scalar:
            raise CannotCompile(f"two functions of floats called '{scalar.__name__}'")
        for i, v in enumerate(values):
            if isinstance(v, Weights) and v.width and not v.turned:
                values[i] = self.graph.make("vector", (), v.index, v.width)
        if scalar is scalars.add and any(isinstance(v, Gradient) and v.memory for v in values):
            return self.outer(*[(t.a, t.g) for v in values for t in self.memory_gradient(v).terms])
        gradients = [v for v in values if isinstance(v, Gradient)]
        if not gradients:
            if not all(isinstance(v, Value) for v in values):
                raise CannotCompile(f"'{scalar.__name__}' of a weight matrix or a memory")
            return self.graph.elementwise(scalar, *values)
        if scalar is scalars.add and len(gradients) == 2:
            a, b = gradients
            if a.turned != b.turned and any(t.a is not None for t in a.terms + b.terms):
                raise CannotCompile("a weight used both as it is and turned round")
            return Gradient(a.terms + b.terms, a.turned)
        if scalar in (scalars.neg, scalars.mul, scalars.div) and isinstance(values[0], Gradient):
            rest = values[1:]
            if all(isinstance(v, Value) for v in rest) and (all(t.a is None for t in values[0].terms) or not rest):
                terms = [Term(t.a, self.graph.elementwise(scalar, t.g, *rest), t.start) for t in values[0].terms]
                return Gradient(terms, values[0].turned)
        raise CannotCompile(f"'{scalar.__name__}' of the gradient of a parameter")

    # ------------------------------------------------------------------ products

    def read_matrix_transpose(self, values: list[Any], inputs: Any, out: Any) -> Any:
        (v,) = values
        if isinstance(v, Weights):
            return replace(v, turned=not v.turned)
        if isinstance(v, Gradient):
            return self.outer(*[(t.g, t.a) for t in v.terms]) if v.memory else Gradient(v.terms, not v.turned)
        if inputs[0].ndim == 3:  # a row for each member stays one
            return v
        return v.row if isinstance(v, Turned) else Turned(v)

    def read_transpose(self, values: list[Any], inputs: Any, out: Any, axes: tuple[int, ...]) -> Any:
        if axes not in ((1, 0), (0, 2, 1)):
            raise CannotCompile("operation 'transpose' of other than the last two axes")
        return self.read_matrix_transpose(values, inputs, out)

    def read_matmul(self, values: list[Any], inputs: tuple[Tensor, ...], out: Any) -> Any:
        a, b = values
        row = a.row if isinstance(a, Turned) else a
        if isinstance(row, Value) and any(v.base.kind == "vector" for v in (row, *row.inputs * (row.kind == "concat"))):
            raise CannotCompile("a product of a parameter that is a vector")
        if inputs[1].ndim == 3:
            return self._product_of_each(a, b, inputs[0].shape, inputs[1].shape)
        if inputs[1].ndim != 2:
            raise CannotCompile("a product of other than two matrices")
        if isinstance(a, Value) and isinstance(b, Weights):
            return self.graph.product(a, Matrix(b.index, b.turned, 0, *inputs[1].shape))
        if isinstance(a, Turned) and isinstance(b, Value):
            start, terms = 0, []
            joined = a.row.kind == "concat" and any(part.base.kind in LEAVES for part in a.row.inputs)
            for part in a.row.inputs if joined else (a.row,):
                terms.append(Term(part, self.graph.spread(b, inputs[1].shape[1]), start))
                start += part.width
            return Gradient(terms)
        raise CannotCompile("a product that is not of a row and a weight matrix")

    def outer(self, *pairs: tuple[Any, Any]) -> Gradient:
        """Of a memory: the sum of a^T g."""
        return Gradient([Term(a, g) for a, g in pairs], memory=True)

    def memory_gradient(self, v: Any) -> Gradient:
        """Of a memory with one row, or one column, a row is the gradient."""
        return v if isinstance(v, Gradient) else self.outer((self.graph.spread(self.graph.constant(1), 1), v))

    def _product_of_each(self, a: Any, b: Any, left: tuple[int, ...], right: tuple[int, ...]) -> Any:
        """A product for each member of the batch: of its row and its memory, or of two of its rows."""
        (_, m, k), n = left, right[2]
        if isinstance(a, Value) and isinstance(b, Weights) and b.memory and m == 1:
            return self.graph.product(self.graph.spread(a, k), Matrix(b.index, b.turned, 0, k, n, True))
        if isinstance(a, Weights) and isinstance(b, Value) and a.memory and n == 1:
            return self.graph.product(self.graph.spread(b, k), Matrix(a.index, not a.turned, 0, k, m, True))
        if isinstance(a, Value) and isinstance(b, Value) and m == n == 1:
            return self.graph.row_sum(self.graph.elementwise(scalars.mul, *[self.graph.spread(v, k) for v in (a, b)]))
        if isinstance(a, Value) and isinstance(b, Value) and k == 1:
            if m == 1 or n == 1:  # a row times a number
                return self.graph.elementwise(scalars.mul, *[self.graph.spread(v, m * n) for v in (a, b)])
            return self.outer((self.graph.spread(a, m), self.graph.spread(b, n)))
        raise CannotCompile("a product of three axes that is not of a row and a memory")

    # ------------------------------------------------------------------ moving numbers

    def read_reshape(self, values: list[Any], inputs: tuple[Tensor, ...], out: Tensor, shape: tuple[int, ...]) -> Any:
        old, new = [n for n in inputs[0].shape if n != 1], [n for n in shape if n != 1]
        if old != new:
            raise CannotCompile(f"operation 'reshape' from {inputs[0].shape} to {shape}")
        return values[0]

    def read_broadcast_to(self, values: list[Any], inputs: Any, out: Any, shape: tuple[int, ...]) -> Any:
        if not isinstance(values[0], Value):
            raise CannotCompile("operation 'broadcast_to' of a weight matrix")
        return self.graph.spread(values[0], self._width(shape)) if shape else values[0]

    def read_split(self, values: list[Any], inputs: tuple[Tensor, ...], out: Any, cuts: tuple[int, ...],
                   axis: int) -> list[Any]:  # fmt: skip
        self._last_axis("split", values, inputs, axis)
        ends = (0, *cuts, inputs[0].shape[-1])
        if any(a == b for a, b in zip(ends, ends[1:])):
            raise CannotCompile("operation 'split' with an empty part")
        return [self.graph.slice(values[0], a, b - a) for a, b in zip(ends, ends[1:])]

    def read_concat(self, values: list[Any], inputs: tuple[Tensor, ...], out: Any, axis: int) -> Value:
        self._last_axis("concat", values, inputs, axis)
        return self.graph.concat([self.graph.spread(v, x.shape[-1]) for v, x in zip(values, inputs)])

    def read_getitem(self, values: list[Any], inputs: tuple[Tensor, ...], out: Any, index: Any) -> Value:
        start, stop = self._columns(values, inputs[0].shape, index)
        return self.graph.slice(values[0], start, stop - start)

    def read_scatter(self, values: list[Any], inputs: tuple[Tensor, ...], out: Any, index: Any,
                     shape: tuple[int, ...]) -> Value:  # fmt: skip
        start, stop = self._columns(values, shape, index)
        zero = self.graph.constant(0)
        parts = [self.graph.spread(zero, start), values[0], self.graph.spread(zero, shape[-1] - stop)]
        return self.graph.concat([p for p, n in zip(parts, (start, 1, shape[-1] - stop)) if n])

    def _width(self, shape: tuple[int, ...]) -> int:
        """Of a row that has that shape; only one of its axes, but that of the batch, is not 1."""
        return math.prod(shape[1:]) if shape[0] == self.batch else shape[-1]

    def _last_axis(self, name: str, values: list[Any], inputs: tuple[Tensor, ...], axis: int) -> None:
        whole = all(isinstance(v, Value) and v.width in (0, 1, x.shape[-1]) for v, x in zip(values, inputs))
        if not whole or axis != inputs[0].ndim - 1:
            raise CannotCompile(f"operation '{name}' along another axis than the last")

    def _columns(self, values: list[Any], shape: tuple[int, ...], index: Any) -> tuple[int, int]:
        """First and last column of an index that takes neighbouring columns."""
        parts = list(index) if isinstance(index, tuple) else [index]
        if len(shape) == 2 and shape[0] == self.batch:
            parts = [p for p in parts if p is not None]
        for at in [i for i, part in enumerate(parts) if part is Ellipsis]:
            parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
        parts += [slice(None)] * (len(shape) - len(parts))
        whole = all(isinstance(p, slice) and p.indices(n) == (0, n, 1) for p, n in zip(parts[:-1], shape))
        whole = whole and len(shape) < 3
        last = parts[-1]
        neighbours = isinstance(last, slice) and last.indices(shape[-1])[2] == 1
        if not isinstance(values[0], Value) or not whole or not neighbours:
            raise CannotCompile("an index that does not take neighbouring columns")
        start, stop, _ = last.indices(shape[-1])
        if stop <= start:
            raise CannotCompile("an empty slice")
        return start, stop

    # ------------------------------------------------------------------ reductions

    def read_sum(self, values: list[Any], inputs: tuple[Tensor, ...], out: Any, axes: tuple[int, ...],
                 keepdims: bool) -> Any:  # fmt: skip
        (v,), shape = values, inputs[0].shape
        if isinstance(v, Gradient) and 0 not in axes[:1]:
            raise CannotCompile("operation 'sum' of the gradient of a parameter")
        if isinstance(v, Gradient):
            return v if math.prod(shape[a] for a in axes) == 1 else self._total(v)
        if len(shape) >= 2 and shape[0] == self.batch:
            v = self.graph.spread(v, self._width(shape))
            if any(shape[a] > 1 for a in axes if a) or (len(shape) == 2 and 1 in axes):
                v = self.graph.row_sum(v)
            return Gradient([Term(None, v)]) if 0 in axes else v
        raise CannotCompile("operation 'sum' of something that is no row")

    def _total(self, v: Gradient) -> Gradient:
        if any(t.a is not None for t in v.terms):
            raise CannotCompile("operation 'sum' of the gradient of a weight matrix")
        return Gradient([Term(None, self.graph.row_sum(t.g)) for t in v.terms])

    def read_max(self, values: list[Any], inputs: tuple[Tensor, ...], out: Any, axes: tuple[int, ...],
                 keepdims: bool) -> Value:  # fmt: skip
        if axes != (1,) or inputs[0].ndim != 2:
            raise CannotCompile("operation 'max' over another axis than the last")
        return self.graph.row_max(self.graph.spread(values[0], inputs[0].shape[1]))

    def _softmax_parts(self, v: Value, shape: tuple[int, ...]) -> tuple[Value, Value, Value]:
        """x - max, e^(x - max), and its sum."""
        if not isinstance(v, Value) or v.width not in (0, 1, shape[-1]):
            raise CannotCompile("a softmax of a weight matrix or a memory, or over another axis than the last")
        shifted = self.graph.elementwise(scalars.sub, v, self.graph.row_max(v))
        e = self.graph.elementwise(scalars.exp, shifted)
        return shifted, e, self.graph.row_sum(e)

    def read_softmax(self, values: list[Any], inputs: Any, out: Any) -> Value:
        _, e, total = self._softmax_parts(values[0], inputs[0].shape)
        return self.graph.elementwise(scalars.div, e, total)

    def read_log_softmax(self, values: list[Any], inputs: Any, out: Any) -> Value:
        shifted, _, total = self._softmax_parts(values[0], inputs[0].shape)
        return self.graph.elementwise(scalars.sub, shifted, self.graph.elementwise(scalars.log, total))

    def read_logsumexp(self, values: list[Any], inputs: Any, out: Any) -> Value:
        _, _, total = self._softmax_parts(values[0], inputs[0].shape)
        log = self.graph.elementwise(scalars.log, total)
        return self.graph.elementwise(scalars.add, self.graph.row_max(values[0]), log)
