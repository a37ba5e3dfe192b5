"""Floor 6: the shared property suites: one line in a test file checks an operation, or a fast path and its definition.

Needs Hypothesis (``pip install 'minigrad[test]'``). Both give a function without arguments, a test for pytest or to be
called. Inputs come from a strategy: a float array, a tuple of arguments, or ``strategies.arguments(...)``; float
arrays in it, also inside lists and dicts, become tensors, everything else is passed as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from minigrad.testing.optional import needs_hypothesis

with needs_hypothesis("minigrad.testing.suites"):
    from hypothesis import Phase, given, settings
    from hypothesis import strategies as st

from minigrad.engine import Operation, apply
from minigrad.engine.anomaly import caller
from minigrad.errors import UserError, describe
from minigrad.ops import REGISTRY
from minigrad.ops.record import Record
from minigrad.testing.calls import calls
from minigrad.testing.clauses import (
    Case,
    Suite,
    SuiteError,
    behaves,
    case_of,
    numerical,
    registered_case,
    second_derivatives,
)
from minigrad.testing.strategies import SEEDS, SIZES, SMALL, arrays, broadcastable_arrays
from minigrad.testing.tally import Tally

__all__ = ["SuiteError", "op_test", "pair_test"]


def _test(name: str, examples: int | None, *parts: Callable[[Any], None]) -> Callable[[], None]:
    """A function that runs the parts, each as a property of its own."""
    options: dict[str, Any] = {"deadline": None, "report_multiple_bugs": False}
    options["phases"] = [p for p in settings().phases if p != Phase.explain]  # it lists lines inside NumPy
    if examples is not None:
        options["max_examples"] = examples

    def property_of(part: Callable[[Any], None]) -> Callable[[], None]:
        def check(data: Any) -> None:
            part(data)

        check.__name__ = check.__qualname__ = f"{name}_{part.__name__}"
        return settings(**options)(given(data=st.data())(check))

    properties = [property_of(part) for part in parts]

    def test() -> None:
        for check in properties:
            check()

    test.__name__ = test.__qualname__ = f"test_{name}"
    test.__doc__ = f"The shared property suite on {name}."
    test.is_gradcheck = True  # type: ignore[attr-defined]  # the pytest plugin marks it
    return test


def _name(f: Any) -> str:
    return str(getattr(f, "name", None) or getattr(f, "__name__", None) or type(f).__name__).strip("<>")


def _understood(where: str, f: Any, inputs: Any, order: Any, examples: Any) -> None:
    """UserError for arguments that would be found wrong only when the test runs, or not at all."""
    if isinstance(f, np.ufunc):
        do = "write it with minigrad's operations; check_vjp checks functions of arrays"
        raise UserError(describe(where, f"{f!r} of NumPy", "a function of tensors", do))
    if inputs is not None and not isinstance(inputs, st.SearchStrategy):
        got, do = f"inputs of type {type(inputs).__name__}", "hypothesis.strategies.just(x) is a strategy of one input"
        raise UserError(describe(where, got, "a strategy", do))
    for name, n in (("order", order), ("examples", 1 if examples is None else examples)):
        if not isinstance(n, int) or n < 1:
            raise UserError(describe(where, f"{name}={n!r}", "a whole number from 1 on"))


def _placed(f: Callable) -> Callable:
    """f, called from the line where the user calls us: reports name that line for an operation that is not used in
    a function of the user's."""
    file, _, line = caller().rpartition(":")
    called: Any = lambda *args, **kwargs: f(*args, **kwargs)
    code = called.__code__.replace(co_filename=file, co_firstlineno=int(line))
    return FunctionType(code, called.__globals__, closure=called.__closure__)


def _arity(f: Callable) -> int:
    """How many tensors a function takes, if it says so."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]
    count = sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    if not count:
        got = f"'{_name(f)}', whose arguments are not known"
        raise UserError(describe("op_test", got, "a strategy of its inputs", "op_test(f, strategy)"))
    return count


def op_test(
    op: Callable | Operation | str,
    inputs: st.SearchStrategy | None = None,
    *,
    oracle: Callable | None = None,
    order: int = 2,
    smooth: bool = True,
    tolerance: float = 1.0,
    examples: int | None = None,
) -> Callable[[], None]:
    """A test of an operation: gradients against numerical ones up to ``order``, and the contract of every operation:
    both dtypes, any layout in memory, every subset of inputs, random cotangents, inputs unchanged, no shared memory,
    two runs equal to the last bit.

    ``op``: a function of tensors, an Operation, or a registered operation or its name, which brings inputs, NumPy
    oracle and smoothness along. ``inputs``: a strategy, see above; without it one array for each argument, shapes that
    broadcast, values in [-3, 3]. ``oracle``: the same in NumPy. ``smooth=False``: there are kinks. ``tolerance``: a
    factor on what float32 and float64 may differ by. ``examples``: otherwise those of the Hypothesis profile.
    The test raises SuiteError or GradientError; UserError for misuse.

    >>> import minigrad as mg
    >>> test_softsign = op_test(lambda x: x / (1.0 + mg.sqrt(1.0 + x * x)), examples=5)
    >>> test_softsign()
    """
    _understood("op_test", op, inputs, order, examples)
    record = _record_of(op)
    if isinstance(op, str) and record is None:
        raise UserError(describe("op_test", repr(op), "the name of a registered operation"))
    f: Any = op
    if record:
        f = _placed(record.function)
    elif isinstance(op, Operation):
        f = _placed(lambda *xs: apply(op, xs))
    oracle = record.oracle if record and oracle is None else oracle
    smooth = record.smooth and smooth if record else smooth
    suite = Suite(f, f, oracle, bool(record and record.group == "Products"), record is not None, tolerance)
    if inputs is None and record is None:
        arity = len(op.vjp) if isinstance(op, Operation) and isinstance(op.vjp, tuple) else _arity(f)
        domain = "real" if smooth else "apart"
        inputs = arrays(domain=domain) if arity == 1 else broadcastable_arrays(arity, domain=domain)

    def draw(data: Any, sizes: Any) -> Case:
        if inputs is not None:
            return case_of(data.draw(inputs, label="inputs"))
        assert record is not None
        call = data.draw(calls(record.name, sizes), label="call")
        return registered_case(call, record, data.draw(SEEDS, label="seed of the values"))

    def contract(data: Any) -> None:
        behaves(suite, draw(data, SIZES), data)

    def derivatives(data: Any) -> None:
        Tally.examples += 1
        numerical(f, draw(data, SMALL), order, smooth)

    differentiable = record is None or record.gradient
    return _test(record.name if record else _name(op), examples, contract, *[derivatives] * differentiable)


def _record_of(op: Any) -> Record | None:
    if isinstance(op, str):
        return REGISTRY.get(op)
    return next((r for r in REGISTRY.values() if op is r.function or op is r.op), None)


def pair_test(
    fast: Callable,
    definition: Callable,
    inputs: st.SearchStrategy,
    *,
    order: int = 2,
    tolerance: float = 1.0,
    examples: int | None = None,
) -> Callable[[], None]:
    """A test that a fast operation and its plain definition are the same function of tensors: values in both dtypes,
    gradients of every subset of inputs for random cotangents of any results, second derivatives (``order=2``), any
    layout in memory, inputs unchanged, no shared memory, two runs equal to the last bit.

    ``inputs``: a strategy, see above. ``tolerance``: a factor on what the two may differ by. The test
    raises SuiteError with the clause that is broken; UserError for misuse.

    >>> import minigrad as mg
    >>> from minigrad.testing.strategies import arrays
    >>> pair_test(mg.sigmoid, lambda x: 0.5 * mg.tanh(0.5 * x) + 0.5, arrays(), examples=5)()
    """
    for f in (fast, definition):
        _understood("pair_test", f, inputs, order, examples)
    suite = Suite(fast, definition, tolerance=tolerance)

    def contract(data: Any) -> None:
        behaves(suite, case_of(data.draw(inputs, label="inputs")), data)

    def second(data: Any) -> None:
        Tally.examples += 1
        second_derivatives(suite, case_of(data.draw(inputs, label="inputs")), data)

    return _test(f"{_name(fast)}_and_{_name(definition)}", examples, contract, *[second] * (order > 1))
