"""Floor 4: the gradient rule of an elementwise operation as one kernel.

A rule such as ``g * (1 - y * y)`` is three operations. When the backward pass is not itself recorded, nothing
needs the steps between: the rule is traced once on symbols, its chain of scalar functions is written out as one
scalar function, and that is compiled like any other. The rule stays the definition; recorded passes
run it as it stands, and the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from minigrad.engine import Operation, Symbol, Tensor, is_recording
from minigrad.engine.tensor import IsSymbol
from minigrad.kernels import BACKENDS


class NotElementwise(Exception):
    """A rule uses an operation that is no function of floats."""


class _Term(Symbol):
    """A value of the traced rule, by its name in the text."""

    __slots__ = ("name", "chain")

    def __init__(self, name: str, chain: _Chain):
        super().__init__()
        self.name, self.chain = name, chain

    def trace(self, op: Operation, inputs: tuple[Tensor, ...], attrs: dict[str, Any]) -> Tensor:
        return self.chain.add(op, inputs)


class _Chain:
    """The lines of the scalar function under construction."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.used: set[str] = set()
        self.parts: dict[str, Callable] = {}
        self.only: tuple[Operation, tuple[str, ...]] | None = None  # a chain of one operation, with its operands

    def add(self, op: Operation, inputs: tuple[Tensor, ...]) -> _Term:
        scalar = Fused.scalars.get(op)
        if scalar is None:
            raise NotElementwise(op.name)
        arguments = []
        for x in inputs:
            if isinstance(x, _Term):
                arguments.append(x.name)
                self.used.add(x.name)
            elif x.size == 1:
                arguments.append(f"T({x.item()!r})")
            else:
                raise NotElementwise(f"{op.name} with an array")
        terms = all(isinstance(x, _Term) for x in inputs)
        self.only = (op, tuple(arguments)) if terms and not self.lines else None
        self.parts[scalar.__name__] = scalar
        name = f"v{len(self.lines)}"
        self.lines.append(f"    {name} = {scalar.__name__}({', '.join(arguments)})")
        return _Term(name, self)


class Fused:
    """A gradient rule ``rule(g, y, *xs)`` with its kernel beside it."""

    scalars: ClassVar[dict[Operation, Callable]] = {}  # of the elementwise operations
    on: ClassVar[bool] = True  # tests compare both ways

    def __init__(self, name: str, rule: Callable[..., Tensor]):
        self.name, self.rule = name, rule
        self.plans: dict[Any, tuple[Callable | None, tuple[int, ...]]] = {}

    def __call__(self, g: Tensor, y: Tensor, *xs: Tensor) -> Tensor:
        if is_recording() or not self.on:
            return self.rule(g, y, *xs)
        try:
            backend = BACKENDS[type(g.data)]
        except IsSymbol:  # the rule itself is being traced
            return self.rule(g, y, *xs)
        plan = self.plans.get(backend)
        if plan is None:
            condition = xs[0].dtype.kind == "b"
            plan = self.plans[backend] = self._plan(backend, len(xs), condition)
        kernel, operands = plan
        if kernel is None:
            return self.rule(g, y, *xs)
        values = (*xs, y, g)
        return Tensor(kernel(*[values[i].data for i in operands]))

    def trace(self, inputs: int) -> tuple[_Chain, Any, list[str]]:
        """The rule's chain of scalar functions, its result, and the names of all operands."""
        chain = _Chain()
        names = [f"x{i}" for i in range(inputs)] + ["y", "g"]
        *xs, y, g = [_Term(name, chain) for name in names]
        return chain, self.rule(g, y, *xs), names

    def source(self, inputs: int) -> tuple[str, tuple[str, ...], tuple[Callable, ...]]:
        """Text of the fused scalar function, its arguments, and the functions that it calls."""
        chain, out, names = self.trace(inputs)
        used = tuple(name for name in names if name in chain.used)
        lines = [f"@inline\ndef {self.name}({', '.join(used)}):", *chain.lines, f"    return {out.name}", "\n\n"]
        return "\n".join(lines), used, tuple(chain.parts.values())

    def _plan(self, backend: Any, inputs: int, condition: bool) -> tuple[Callable | None, tuple[int, ...]]:
        """A kernel and which of (*xs, y, g) it takes; no kernel where the rule has none of its own to run."""
        try:
            chain, out, names = self.trace(inputs)
        except NotElementwise:
            return None, ()
        if not chain.lines or "g" not in chain.used:
            return None, ()
        if chain.only is not None:  # the kernel of that operation is there already
            op, arguments = chain.only
            return partial(op.forward, backend), tuple(names.index(name) for name in arguments)
        text, used, parts = self.source(inputs)
        kernel = backend.Elementwise(self.name, parts, len(used), text=text, condition=condition and "x0" in used)
        return kernel, tuple(names.index(name) for name in used)
