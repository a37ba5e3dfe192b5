"""Floor 4: an operation is one record.

From a record follow the public function, the tensor method, the row of the reference page, the property
tests and the kernels. ``unary``, ``binary`` and ``ternary`` make an elementwise operation from one scalar function;
``operation`` and ``composite`` add what tests and docs need to functions that are written out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from minigrad.engine import Operation, Tensor, apply, constant
from minigrad.ops.fuse import Fused

Interval = tuple[float, float]
REAL: Interval = (-3.0, 3.0)
POSITIVE: Interval = (0.3, 3.0)


class Case(NamedTuple):
    """One way to call an operation in tests: a tuple is the shape of a random array, a list of tuples a list of
    such arrays, anything else is passed as it is."""

    args: tuple[Any, ...]
    attrs: dict[str, Any]


def case(*args: Any, **attrs: Any) -> Case:
    return Case(args, attrs)


@dataclass(frozen=True, eq=False)
class Record:
    """What is known of an operation.

    name:      public name
    equation:  one line of mathematics
    function:  the public function
    oracle:    the same in NumPy
    domain:    for each array argument the interval in which tests draw it
    cases:     calls to test
    smooth:    False where it has kinks, so that tests keep away from them
    gradient:  whether a gradient is defined
    group:     heading of the reference page
    op:        the primitive operation, None if composed of others
    """

    name: str
    equation: str
    function: Callable[..., Any]
    oracle: Callable[..., Any]
    domain: tuple[Interval, ...] = (REAL,)
    cases: tuple[Case, ...] = ()
    smooth: bool = True
    gradient: bool = True
    group: str = ""
    op: Operation | None = None


REGISTRY: dict[str, Record] = {}


def _register(record: Record) -> None:
    if record.name in REGISTRY:
        raise ValueError(f"[{record.name}] there is an operation of that name already")
    REGISTRY[record.name] = record


class _Launch:
    """The forward of an elementwise operation: one kernel for each backend, made when first used."""

    __slots__ = ("make", "kernels")

    def __init__(self, make: Callable[[Any], Callable]):
        self.make = make
        self.kernels: dict[Any, Callable] = {}

    def __call__(self, backend: Any, *arrays: Any) -> Any:
        kernel = self.kernels.get(backend)
        if kernel is None:
            kernel = self.kernels[backend] = self.make(backend)
        return kernel(*arrays)


_SHAPES = {
    1: (case((3, 4)), case(()), case((0, 3)), case((1, 1)), case((2, 3, 5))),
    2: (case((3, 4), (3, 4)), case((3, 1), (4,)), case((), (2, 3)), case((0, 3), (3,)), case((2, 1, 3), (5, 1)),
        case((2, 1, 3, 1, 2), (1, 4, 1, 5, 1))),
    3: (case((3, 4), (3, 4), (3, 4)), case((3, 1), (4,), ()), case((1,), (2, 3), (3,))),
}  # fmt: skip


def elementwise(
    name: str,
    equation: str,
    scalar: Callable,
    arity: int,
    vjp: tuple[Callable | None, ...] | None,
    oracle: Callable,
    domain: tuple[Interval, ...] = (REAL,),
    *,
    smooth: bool = True,
    floats: bool = True,
    out: str = "",
    condition: bool = False,
) -> Operation:
    """Register an elementwise operation; returns the primitive."""
    rules = vjp and tuple(Fused(f"{name}_vjp{i}", rule) if rule else None for i, rule in enumerate(vjp))
    options = {"out": out, "floats": floats, "condition": condition}
    forward = _Launch(lambda backend: backend.Elementwise(name, (scalar,), arity, **options))
    op = Operation(name, forward, rules)
    Fused.scalars[op] = scalar
    return op


def unary(name: str, equation: str, scalar: Callable, vjp: Callable | None, oracle: Callable,
          domain: Interval = REAL, *, smooth: bool = True, floats: bool = True) -> Callable[[Any], Tensor]:  # fmt: skip
    """A function of one tensor, elementwise. ``vjp(g, y, x)`` is its gradient rule."""
    op = elementwise(name, equation, scalar, 1, vjp and (vjp,), oracle, (domain,), smooth=smooth, floats=floats)

    def function(x: Any) -> Tensor:
        return apply(op, (x if isinstance(x, Tensor) else constant(name, x, x),))

    return _public(function, op, equation, oracle, (domain,), _SHAPES[1], smooth, vjp is not None)


def binary(name: str, equation: str, scalar: Callable, vjp: tuple[Callable, Callable] | None, oracle: Callable,
           domain: tuple[Interval, Interval] = (REAL, REAL), *, smooth: bool = True, floats: bool = False,
           out: str = "") -> Callable[[Any, Any], Tensor]:  # fmt: skip
    """A function of two tensors (or a tensor and a number) that broadcast. Rules take ``(g, y, a, b)``."""
    op = elementwise(name, equation, scalar, 2, vjp, oracle, domain, smooth=smooth, floats=floats, out=out)

    def function(x: Any, y: Any) -> Tensor:
        if not isinstance(y, Tensor):
            y = constant(name, y, x)
        elif not isinstance(x, Tensor):
            x = constant(name, x, y)
        return apply(op, (x if isinstance(x, Tensor) else constant(name, x, y), y))

    return _public(function, op, equation, oracle, domain, _SHAPES[2], smooth, vjp is not None)


def _public(function: Callable, op: Operation, equation: str, oracle: Callable, domain: tuple[Interval, ...],
            cases: tuple[Case, ...], smooth: bool, gradient: bool) -> Callable:  # fmt: skip
    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = f"{equation}, element by element."
    group = "Elementwise" if gradient else "Elementwise, without gradient"
    _register(Record(op.name, equation, function, oracle, domain, cases, smooth, gradient, group, op))
    return function


def operation(
    equation: str,
    oracle: Callable,
    *cases: Case,
    domain: tuple[Interval, ...] = (REAL,),
    smooth: bool = True,
    group: str = "",
    op: Operation | None = None,
) -> Callable[[Callable], Callable]:
    """Register the decorated public function; with ``op`` it is a primitive, else composed of others."""

    def add(function: Callable) -> Callable:
        _register(Record(function.__name__, equation, function, oracle, domain, cases, smooth, True, group, op))
        return function

    return add
