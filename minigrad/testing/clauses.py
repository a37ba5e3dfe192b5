"""Floor 6: the clauses of the contract that the shared suites demand of every operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from minigrad.testing.optional import needs_hypothesis

with needs_hypothesis("minigrad.testing.suites"):
    from hypothesis import strategies as st

from minigrad.engine import Tensor, vjp
from minigrad.engine.tree import leaves, rebuild
from minigrad.errors import UserError, describe
from minigrad.ops.fuse import Fused
from minigrad.ops.record import Record
from minigrad.testing import check_grad
from minigrad.testing.calls import Call, values
from minigrad.testing.layout import LAYOUTS, lay_out, shared
from minigrad.testing.strategies import SEEDS, Arguments
from minigrad.testing.tally import Tally

# Relative to the largest number. Values of a registered operation, against NumPy: some for each element added up.
VALUE = {"float32": 3e-6, "float64": 1e-14}
CLOSE = {"float32": 3e-5, "float64": 1e-12}  # gradients, and values of other functions
SECOND = 1e-9  # second derivatives, in float64


class SuiteError(AssertionError):
    """A clause of the contract is broken; the message begins with the clause."""

    __module__ = "minigrad.testing.suites"


@contextmanager
def unfused() -> Iterator[None]:
    """Gradient rules run as they are written, not as fused kernels."""
    before, Fused.on = Fused.on, False
    try:
        yield
    finally:
        Fused.on = before


class Case(NamedTuple):
    """One drawn call: its float arrays, and how a function is called with others in their places."""

    arrays: list[np.ndarray]
    run: Callable[[Callable, list], Any]


def case_of(drawn: Any) -> Case:
    """Of what the user's strategy drew."""
    if not isinstance(drawn, (tuple, Arguments)):
        drawn = (drawn,)
    tree = (drawn.args, drawn.kwargs) if isinstance(drawn, Arguments) else (drawn, {})
    found = leaves(tree)
    found = [np.asarray(x) if isinstance(x, Tensor) and x.dtype.kind == "f" else x for x in found]
    floats = [i for i, x in enumerate(found) if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
    if not floats:
        got = f"arguments without a float array: {drawn!r}"
        raise UserError(describe("op_test", got, "float arrays to differentiate by"))

    def run(f: Callable, xs: list) -> Any:
        full = list(found)
        for i, x in zip(floats, xs, strict=True):
            full[i] = x
        args, kwargs = rebuild(tree, full)
        return f(*args, **kwargs)

    return Case([found[i] for i in floats], run)


def registered_case(call: Call, record: Record, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    return Case([values(rng, record, i, s) for i, s in enumerate(call.shapes)], call.run)


# ------------------------------------------------------------------------------------------------ the clauses


def demand(truth: Any, clause: str, message: str) -> None:
    if not truth:
        raise SuiteError(f"{clause}: {message}")


def _results(out: Any, clause: str = "results") -> list[Tensor]:
    found = leaves(out)
    if not found or not all(isinstance(y, Tensor) for y in found):
        raise SuiteError(f"{clause}: got {type(out).__name__}, expected a tensor or containers of tensors")
    return found


def _close(got: Any, expected: Any, tolerance: float, clause: str, terms: Any = 0.0) -> None:
    """``terms``: the size of what was added up, where it may have cancelled."""
    got, expected = np.asarray(got), np.asarray(expected)
    demand(got.shape == expected.shape, clause, f"got shape {got.shape}, expected {expected.shape}")
    if got.dtype.kind == "b" or not got.size:
        demand(np.array_equal(got, expected), clause, f"got\n{got}\nexpected\n{expected}")
        return
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)), float(np.max(terms, initial=0)))
    with np.errstate(invalid="ignore"):
        wide = got.astype(np.float64)
        right = (wide == expected) | (np.isnan(wide) & np.isnan(expected)) | (abs(wide - expected) <= tolerance * scale)
    at = tuple(int(i) for i in np.argwhere(~right)[0]) if not right.all() else ()
    demand(right.all(), clause, f"{int((~right).sum())} of {got.size} elements differ by more than "
           f"{tolerance * scale:.1e}; at {at} got {wide[at]}, expected {expected[at]}")  # fmt: skip


class Outcome(NamedTuple):
    results: list[np.ndarray]
    gradients: list[np.ndarray | None]  # of the inputs, None where not asked for or where nothing depends on one


def _walk(case: Case, f: Callable, xs: list, gs: list, wanted: list[bool], used: list[bool]) -> Outcome:
    """Results, and gradients of the wanted inputs for cotangents of the used results."""
    tensors = [Tensor(x, requires_grad=w) for x, w in zip(xs, wanted)]
    ys = _results(case.run(f, tensors))
    demand(len(ys) == len(gs), "values", f"got {len(ys)} results, expected {len(gs)}")
    for y, g in zip(ys, gs):
        demand(y.shape == g.shape, "values", f"got shape {y.shape}, expected {g.shape}")
        wrong = y.dtype.kind == "f" and y.dtype != g.dtype
        demand(not wrong, "values", f"got dtype {y.dtype} for inputs of {g.dtype}")
    pairs = [(y, g) for y, g, u in zip(ys, gs, used, strict=True) if u and y.requires_grad]
    if len(pairs) == 1:
        pairs[0][0].backward(Tensor(pairs[0][1]))
    elif pairs:
        total = (pairs[0][0] * Tensor(pairs[0][1])).sum()
        for y, g in pairs[1:]:
            total = total + (y * Tensor(g)).sum()
        total.backward()
    for t in tensors:
        demand(t.requires_grad or t.grad is None, "subsets", "an input that requires no gradient received one")
    return Outcome([y.data for y in ys], [None if t.grad is None else t.grad.data for t in tensors])


def _bits(outcome: Outcome) -> list[bytes]:
    return [b"" if a is None else np.ascontiguousarray(a).tobytes() for a in (*outcome.results, *outcome.gradients)]


def _subset(data: Any, n: int, label: str) -> list[bool]:
    """A non-empty subset, the full one first."""
    if n > 6:
        return data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any), label=label)
    every = sorted(([*s] for s in product((True, False), repeat=n) if any(s)), key=lambda s: -sum(s))
    return data.draw(st.sampled_from(every), label=label) if every else []


class Suite(NamedTuple):
    """What is tested. ``oracle`` gives values and takes arrays; ``reference`` takes tensors and gives values, where
    there is no oracle, and gradients. ``terms``: of products, whose terms may cancel. ``tolerance`` is a factor."""

    f: Callable
    reference: Callable
    oracle: Callable | None = None
    terms: bool = False
    registered: bool = False
    tolerance: float = 1.0


def behaves(suite: Suite, case: Case, data: Any) -> None:
    """All clauses but numerical derivatives, in a drawn dtype and drawn layouts."""
    Tally.examples += 1
    dtype = data.draw(st.sampled_from(("float32", "float64")), label="dtype")
    kinds = ("as drawn", *LAYOUTS)
    xs = []
    for x in case.arrays:
        kind = data.draw(st.sampled_from(kinds), label="layout")
        xs.append(x.astype(dtype, copy=False) if kind == "as drawn" else lay_out(x.astype(dtype), kind))
    before = [x.copy() for x in xs]
    wide = [np.array(x, np.float64, order="C") for x in xs]
    plain = _results(case.run(suite.reference, [Tensor(x) for x in wide]))
    if not suite.registered and not any(y.dtype.kind == "f" for y in plain):
        got = f"results of dtype {', '.join(str(y.dtype) for y in plain)}"
        raise UserError(describe("suite", got, "a float32 or float64 result to differentiate"))
    rng = np.random.default_rng(data.draw(SEEDS, label="seed of the cotangents"))
    how = data.draw(st.sampled_from(LAYOUTS), label="layout of the cotangents")
    gs = [lay_out(rng.standard_normal(y.shape).astype(dtype), how) for y in plain]
    wanted, used = _subset(data, len(xs), "inputs"), _subset(data, len(plain), "results used")

    found = _walk(case, suite.f, xs, gs, wanted, used)
    for x, b in zip(xs, before):
        demand(np.array_equal(x, b, equal_nan=True), "inputs unchanged", f"an input of shape {x.shape} was written to")
    again = _walk(case, suite.f, xs, gs, wanted, used)
    demand(_bits(again) == _bits(found), "repeatable", "two runs on the same inputs differ")
    expected = [np.asarray(y) for y in plain]
    terms: list[Any] = [0.0] * len(plain)
    if suite.oracle is not None:
        expected = [np.asarray(y) for y in leaves(case.run(suite.oracle, wide))]
        if suite.terms:
            terms = leaves(case.run(suite.oracle, [abs(x) for x in wide]))
    longest = max([x.size for x in xs] + [1])
    allowed = VALUE[dtype] * max(1.0, longest**0.5 / 4) if suite.registered else CLOSE[dtype] * suite.tolerance
    for y, e, t in zip(found.results, expected, terms, strict=True):
        demand((y.dtype.kind == "b") == (e.dtype.kind == "b"), "values", f"got dtype {y.dtype}, expected {e.dtype}")
        _close(y, e, allowed, f"values in {dtype}", t)

    owner = shared(found.gradients, xs, gs)
    demand(not owner, "no aliasing", owner)

    _in_every_layout(suite, case, dtype, allowed)
    everything = [True] * len(xs)
    with unfused():
        right = _walk(case, suite.reference, wide, [np.array(g, np.float64) for g in gs], everything, used).gradients
    for i, (x, got, e) in enumerate(zip(xs, found.gradients, right)):
        if not wanted[i]:
            continue
        if got is None or e is None:
            given = np.zeros(x.shape) if got is None and e is None else got if e is None else e
            demand(not np.any(given), "gradients", f"input {i} has {'no' if got is None else 'a'} gradient, expected "
                   f"{'one' if got is None else 'none'}")  # fmt: skip
            continue
        demand(got.dtype == dtype, "gradients", f"got dtype {got.dtype} for an input of {dtype}")
        _close(got, e, CLOSE[dtype] * suite.tolerance, f"gradient of input {i} in {dtype}")


def _in_every_layout(suite: Suite, case: Case, dtype: str, allowed: float) -> None:
    """The results depend on no layout in memory, all inputs being laid out alike."""

    def results(layout: str) -> list[Tensor]:
        return _results(case.run(suite.f, [Tensor(lay_out(x.astype(dtype), layout)) for x in case.arrays]))

    plain = results("plain")
    for layout in LAYOUTS[1:]:
        if layout != "broadcast":  # which has other values
            for y, e in zip(results(layout), plain, strict=True):
                _close(y, e, allowed * (20 if suite.terms else 1), f"values in {dtype}, {layout} inputs")


def second_derivatives(suite: Suite, case: Case, data: Any) -> None:
    """Of both, in float64, along random directions: the derivative of the gradient for a random cotangent."""
    rng = np.random.default_rng(data.draw(SEEDS, label="seed of the directions"))
    xs = [np.array(x, np.float64) for x in case.arrays]
    plain = _results(case.run(suite.reference, [Tensor(x) for x in xs]))
    float_results = [i for i, y in enumerate(plain) if y.dtype.kind == "f"]
    gs = [rng.standard_normal(plain[i].shape) for i in float_results]
    vs = [Tensor(rng.standard_normal(x.shape)) for x in xs]

    def first(f: Callable) -> Callable:
        def outputs(*ts: Tensor) -> tuple:
            ys = _results(case.run(f, list(ts)))
            return tuple(ys[i] for i in float_results)

        return lambda *args: tuple(vjp(outputs, *args[: len(xs)])[1](args[len(xs) :]))

    found, expected = (
        vjp(first(f), *[Tensor(np.array(a)) for a in (*xs, *gs)])[1](tuple(vs)) for f in (suite.f, suite.reference)
    )
    for i, (got, e) in enumerate(zip(found, expected, strict=True)):
        _close(got, e, SECOND * suite.tolerance, f"second derivative, {f'input {i}' if i < len(xs) else 'cotangent'}")


def numerical(f: Callable, case: Case, order: int, smooth: bool) -> None:
    """Reverse mode against numerical derivatives."""
    check_grad(lambda *ts: case.run(f, list(ts)), *case.arrays, order=order, scale=0.02 if smooth else 1e-3)
