"""Floor 4: the gradient rule of an elementwise operation as one kernel.

A rule such as ``g * (1 - y * y)`` is three operations. When the backward pass is not itself recorded, nothing
needs the steps between: the rule is run once on abstract arrays, its chain of scalar functions is written out as one
scalar function, and that is compiled like any other. The rule stays the definition; recorded passes
run it as it stands, and the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from minigrad.engine import Operation, Tensor, observe
from minigrad.kernels import BACKENDS
from minigrad.kernels.abstract import Abstract


class NotElementwise(Exception):
    """A rule uses an operation that is no function of floats."""


class Chain:
    """A traced rule as lines of a scalar function: ``v0 = mul(y, y)``, ``v1 = sub(T(1.0), v0)``, ..."""

    def __init__(self, rule: Callable[..., Tensor], inputs: int, condition: bool):
        self.names = [f"x{i}" for i in range(inputs)] + ["y", "g"]
        self.lines: list[str] = []
        self.parts: dict[str, Callable] = {}
        self.used: set[str] = set()
        self.only: tuple[Operation, tuple[str, ...]] | None = None  # a chain of one operation, and its operands
        operands = [Tensor(Abstract((2,), "float64")) for _ in self.names]
        if condition:
            operands[0] = Tensor(Abstract((2,), "bool"))
        self._named = {id(x): name for x, name in zip(operands, self.names)}
        self._alive = list(operands)  # an id is a name only while its tensor lives
        *xs, y, g = operands
        with observe(self._add):
            out = rule(g, y, *xs)
        self.result = self._named.get(id(out), "")

    def _add(self, op: Operation, inputs: tuple[Tensor, ...], attrs: dict[str, Any], out: Any) -> None:
        scalar = Fused.scalars.get(op)
        if scalar is None:
            raise NotElementwise(op.name)
        arguments = tuple(self._argument(x) for x in inputs)
        names = all(a in self._named.values() for a in arguments)
        self.only = (op, arguments) if names and not self.lines else None
        self.used.update(arguments)
        if self.parts.setdefault(scalar.__name__, scalar) is not scalar:
            raise NotElementwise(f"two functions called {scalar.__name__}")
        self._named[id(out)] = f"v{len(self.lines)}"
        self._alive.append(out)
        self.lines.append(f"    v{len(self.lines)} = {scalar.__name__}({', '.join(arguments)})")

    def _argument(self, x: Tensor) -> str:
        if id(x) in self._named:
            return self._named[id(x)]
        value = x.data.value if isinstance(x.data, Abstract) else x.item() if x.size == 1 else None
        if value is None:
            raise NotElementwise("an array that is no operand")
        return f"T({value!r})"


class Fused:
    """A gradient rule ``rule(g, y, *xs)``, and beside it ``arrays``, the same as one kernel."""

    scalars: ClassVar[dict[Operation, Callable]] = {}  # of the elementwise operations
    on: ClassVar[bool] = True  # tests compare both ways

    def __init__(self, name: str, rule: Callable[..., Tensor]):
        self.name, self.rule = name, rule
        self.plans: dict[Any, tuple[Callable | None, tuple[int, ...]]] = {}

    def __call__(self, g: Tensor, y: Tensor, *xs: Tensor) -> Tensor:
        return self.rule(g, y, *xs)

    def arrays(self, g: Any, y: Any, xs: list[Any]) -> Any:
        """The rule on arrays, by its kernel; None if it has none."""
        if not self.on:
            return None
        backend = BACKENDS[type(g)]
        plan = self.plans.get(backend)
        if plan is None:
            plan = self.plans[backend] = self._plan(backend, len(xs), xs[0].dtype.kind == "b")
        kernel, operands = plan
        if kernel is None:
            return None
        values = (*xs, y, g)
        if len(operands) == 2:
            a, b = operands
            return kernel(values[a], values[b])
        return kernel(*[values[i] for i in operands])

    def source(self, chain: Chain) -> tuple[str, tuple[str, ...]]:
        """Text of the fused scalar function, and its arguments."""
        used = tuple(name for name in chain.names if name in chain.used)
        lines = [f"@inline\ndef {self.name}({', '.join(used)}):", *chain.lines, f"    return {chain.result}"]
        return "\n".join(lines) + "\n\n\n", used

    def _plan(self, backend: Any, inputs: int, condition: bool) -> tuple[Callable | None, tuple[int, ...]]:
        """A kernel, and which of (*xs, y, g) it takes; no kernel where the rule computes nothing, or no scalar."""
        try:
            chain = Chain(self.rule, inputs, condition)
        except NotElementwise:
            return None, ()
        if not chain.lines or "g" not in chain.used:
            return None, ()
        if chain.only is not None:  # the kernel of that operation is there already
            op, arguments = chain.only
            return partial(op.forward, backend), tuple(chain.names.index(name) for name in arguments)
        text, used = self.source(chain)
        parts = tuple(chain.parts.values())
        kernel = backend.Elementwise(self.name, parts, len(used), text=text, condition=condition and "x0" in used)
        return kernel, tuple(chain.names.index(name) for name in used)
