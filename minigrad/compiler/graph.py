"""Floor 4: a cell as a graph of values of one row: what one member of the batch computes in one step.

Every value has a width: the state h of one row has H numbers. A product with a weight matrix takes a row to
a row; elementwise functions work number by number; ``row_sum`` and ``row_max`` give one number. The batch and time do
not occur. Equal expressions are one value, and slices are pushed down to what lies in memory, so that cutting and
joining gates costs nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from minigrad import scalars

# Kinds of value; the leaves lie in memory before a step begins.
LEAVES = ("x", "state", "vector", "scalar", "gy", "gs")
MEMORY = (*LEAVES, "product")


class Matrix(NamedTuple):
    """A weight as a product sees it: row (k) -> row (n). Rows ``start .. start + k`` of parameter ``index``, which is
    turned if ``turned``; k and n are sizes of that view. With ``memory`` it is that state of three axes, which has a
    matrix for each member of the batch, and which no step changes."""

    index: int
    turned: bool
    start: int
    k: int
    n: int
    memory: bool = False

    def __str__(self) -> str:
        rows = f"[{self.start}:{self.start + self.k}]" if self.start else ""
        return f"{'state' if self.memory else 'p'}{self.index}{'^T' if self.turned else ''}{rows}"


class Value:
    """One value of a row. ``attr`` is what the kind needs: number of a leaf, scalar function, matrices, offset."""

    __slots__ = ("kind", "inputs", "attr", "width", "number")

    def __init__(self, kind: str, inputs: tuple[Value, ...], attr: Any, width: int, number: int):
        self.kind, self.inputs, self.attr, self.width, self.number = kind, inputs, attr, width, number

    def __repr__(self) -> str:
        return f"%{self.number}"

    @property
    def base(self) -> Value:
        """What a slice is a slice of; else the value itself."""
        return self.inputs[0] if self.kind == "slice" else self

    @property
    def offset(self) -> int:
        return self.attr if self.kind == "slice" else 0


class Graph:
    """Makes values; the same request gives the same value."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._known: dict[tuple, Value] = {}

    def make(self, kind: str, inputs: Iterable[Value] = (), attr: Any = None, width: int = 0) -> Value:
        inputs = tuple(inputs)
        key = (kind, tuple(v.number for v in inputs), attr, width)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Value(kind, inputs, attr, width, len(self.values))
            self.values.append(found)
        return found

    def entries(self) -> list[tuple]:
        """All values, as something to compare graphs by."""
        return [(v.kind, [i.number for i in v.inputs], v.attr, v.width) for v in self.values]

    def constant(self, value: float) -> Value:
        return self.make("constant", attr=float(value))

    def elementwise(self, function: Callable, *xs: Value) -> Value:
        """``function`` number by number; operands of width 0 or 1 go with any width."""
        simple = self._simplified(function, xs)
        if simple is not None:
            return simple
        joined = [x for x in xs if x.kind == "concat"]
        if joined:  # part by part, so that the joined row need not exist
            cuts = sorted({c for x in joined for c in _cuts(x)})
            pieces = []
            for a, b in zip(cuts, cuts[1:]):
                pieces.append(self.elementwise(function, *[self.slice(x, a, b - a) for x in xs]))
            return self.concat(pieces)
        return self.make("elementwise", xs, function, max(x.width for x in xs))

    def _simplified(self, function: Callable, xs: Sequence[Value]) -> Value | None:
        """x + 0, x * 1, x * 0, -0 and sums of products; None if nothing is to be saved."""
        width = max(x.width for x in xs)
        known = [number(x) for x in xs]
        if function is scalars.add and 0 in known:
            return self.spread(xs[1 - known.index(0)], width)
        if function is scalars.sub and known[1] == 0:
            return self.spread(xs[0], width)
        if function is scalars.mul and 0 in known:
            return self.spread(self.constant(0), width)
        if function is scalars.mul and 1 in known:
            return self.spread(xs[1 - known.index(1)], width)
        if function is scalars.neg and known[0] == 0:
            return xs[0]
        if function is scalars.add and all(x.kind == "product" for x in xs) and xs[0].width == xs[1].width:
            return self.make("product", xs[0].inputs + xs[1].inputs, xs[0].attr + xs[1].attr, width)
        if function is scalars.add:  # (product + a) + product: the products of a sum stay together
            for x, other in (xs, xs[::-1]):
                if x.kind == "product" and other.kind == "elementwise" and other.attr is scalars.add:
                    for j, part in enumerate(other.inputs):
                        if part.kind == "product" and part.width == x.width:
                            return self.elementwise(function, self.elementwise(function, part, x), other.inputs[1 - j])
        return None

    def product(self, x: Value, matrix: Matrix) -> Value:
        """x (k) times a matrix (k, n); a row joined of leaves, which lie apart in memory, is taken part by part."""
        if x.kind == "concat" and any(part.base.kind in LEAVES for part in x.inputs) and not matrix.memory:
            terms, start = [], matrix.start
            for part in x.inputs:
                terms.append(self.product(part, matrix._replace(start=start, k=part.width)))
                start += part.width
            total = terms[0]
            for term in terms[1:]:
                total = self.elementwise(scalars.add, total, term)
            return total
        return self.make("product", (x,), (matrix,), matrix.n)

    def concat(self, parts: Iterable[Value]) -> Value:
        flat = [p for part in parts for p in (part.inputs if part.kind == "concat" else (part,))]
        return flat[0] if len(flat) == 1 else self.make("concat", flat, None, sum(p.width for p in flat))

    def slice(self, x: Value, start: int, width: int) -> Value:
        """Numbers ``start .. start + width`` of x."""
        if x.width <= 1 or (start == 0 and width == x.width):
            return x
        if x.kind == "concat":
            parts, at = [], 0
            for part in x.inputs:
                low, high = max(start, at), min(start + width, at + part.width)
                if low < high:
                    parts.append(self.slice(part, low - at, high - low))
                at += part.width
            return self.concat(parts)
        if x.kind == "elementwise":
            return self.elementwise(x.attr, *[self.slice(v, start, width) for v in x.inputs])
        if x.kind == "spread":
            return self.spread(x.inputs[0], width)
        return self.make("slice", (x.base,), x.offset + start, width)

    def spread(self, x: Value, width: int) -> Value:
        """One number, or a constant, as a row of that width."""
        if x.width == width:
            return x
        return self.make("spread", (x.inputs[0] if x.kind == "spread" else x,), None, width)

    def row_sum(self, x: Value) -> Value:
        return self._over_row("row_sum", scalars.add, x)

    def row_max(self, x: Value) -> Value:
        return self._over_row("row_max", scalars.maximum, x)

    def _over_row(self, kind: str, both: Callable, x: Value) -> Value:
        """One number of all those of a row; a joined row is taken part by part, and ``both`` joins two results."""
        if x.kind == "concat":
            return functools.reduce(
                lambda total, part: self.elementwise(both, total, part),
                [self._over_row(kind, both, part) for part in x.inputs],
            )
        return x if x.width == 1 else self.make(kind, (x,), None, 1)


def number(x: Value) -> float | None:
    """The number that a constant is, spread or not."""
    x = x.inputs[0] if x.kind == "spread" else x
    return x.attr if x.kind == "constant" else None


def _cuts(x: Value) -> list[int]:
    cuts = [0]
    for part in x.inputs:
        cuts.append(cuts[-1] + part.width)
    return cuts


def below(roots: Iterable[Value]) -> list[Value]:
    """All values that the roots need, inputs first."""
    seen: set[int] = set()
    order: list[Value] = []
    stack = [(v, False) for v in reversed(list(roots))]
    while stack:
        v, done = stack.pop()
        if done:
            order.append(v)
        elif v.number not in seen:
            seen.add(v.number)
            stack.append((v, True))
            stack += [(i, False) for i in v.inputs]
    return order


def terms(x: Value) -> list[Value]:
    """The summands of a sum, and every product of its own: a + (b + c) is [a, b, c]."""
    if x.kind == "elementwise" and x.attr is scalars.add:
        return [t for v in x.inputs for t in terms(v)]
    return [x]


def text(roots: dict[str, Value]) -> str:
    """The graph as lines ``%5 = tanh(%4)   # 32``, widths behind."""
    names = {"x": "x", "state": "state", "vector": "p", "scalar": "p", "gy": "g_y", "gs": "g_state"}
    lines = []
    for v in sorted(below(roots.values()), key=lambda v: v.number):
        if v.kind in names:
            body = f"{names[v.kind]}{v.attr}"
        elif v.kind == "constant":
            body = f"{v.attr:g}"
        elif v.kind == "product":
            body = " + ".join(f"{x} @ {m}" for x, m in zip(v.inputs, v.attr))
        elif v.kind == "slice":
            body = f"{v.inputs[0]}[{v.attr}:{v.attr + v.width}]"
        elif v.kind == "elementwise":
            body = f"{v.attr.__name__}({', '.join(map(str, v.inputs))})"
        else:
            body = f"{v.kind}({', '.join(map(str, v.inputs))})"
        lines.append(f"%{v.number} = {body}" + (f"   # {v.width}" if v.width else ""))
    lines += [f"{name} = {v}" for name, v in roots.items()]
    return "\n".join(lines)
