"""Floor 4: a scan as one operation: compiled forward and backward, and its definition for every higher order."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.compiler.emit import CellKernel
from minigrad.compiler.plan import Plan
from minigrad.compiler.run import Sequence
from minigrad.compiler.trace import CannotCompile, trace
from minigrad.engine import Operation, Tensor, apply, is_recording
from minigrad.engine.backward import pull_back
from minigrad.engine.tensor import FLOATS
from minigrad.engine.tree import leaves, rebuild, structure
from minigrad.errors import MinigradError

_KNOWN: weakref.WeakKeyDictionary[Callable, dict[Any, CellKernel | str]] = weakref.WeakKeyDictionary()


_FIXED = ("minigrad", "math")  # packages whose modules and functions do not change


class _Changing(Exception):
    """A cell looks at something outside of it that may be another the next time."""


def _outside(function: types.FunctionType) -> tuple:
    """All that a function and its helpers take from outside: numbers and texts. What else there is, raises _Changing;
    modules and functions of this package do not change."""
    if (function.__module__ or "").startswith("minigrad.") and not function.__closure__:
        return ()
    found: list[Any] = []
    seen: set[int] = set()
    functions = [function]
    while functions:
        f = functions.pop()
        seen.add(id(f))
        codes, names = [f.__code__], set()
        while codes:
            code = codes.pop()
            names.update(code.co_names)
            codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
        values = [c.cell_contents for c in f.__closure__ or ()]
        values += [*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values()]
        for value in values + [f.__globals__[name] for name in sorted(names) if name in f.__globals__]:
            home = getattr(value, "__module__", None) or getattr(value, "__name__", "")
            if isinstance(value, (int, float, str, type(None))):
                found.append(value)
            elif isinstance(value, (types.ModuleType, types.FunctionType)) and home.split(".")[0] in _FIXED:
                continue
            elif isinstance(value, types.FunctionType):
                if id(value) not in seen:
                    functions.append(value)
            else:
                raise _Changing
    return tuple(found)


def kernel_of(cell: Callable, params: Any, xs: Any, state: Any) -> CellKernel | str:
    """The compiled cell for leaves of such shapes, or the reason why there is none."""
    if not isinstance(cell, types.FunctionType):
        return "the cell is no plain function"
    try:
        groups = leaves(xs), leaves(state), leaves(params)
        arrays = [[t.data for t in group] for group in groups]
        shapes = [[a.shape[drop:] for a in group] for group, drop in zip(arrays, (2, 1, 0))]
        kinds = {(type(a), a.dtype) for group in arrays for a in group}
    except AttributeError:
        return "a leaf of params, xs or state is no tensor"
    try:
        trees = structure(xs), structure(state), structure(params)
        key = (*[tuple(s) for s in shapes], *kinds, *trees, _outside(cell))
    except _Changing:
        return _compile(cell, params, xs, state)
    known = _KNOWN.get(cell)
    if known is None:
        known = _KNOWN[cell] = {}
    found = known.get(key)
    if found is None:
        found = known[key] = _compile(cell, params, xs, state)
    return found


def _compile(cell: Callable, params: Any, xs: Any, state: Any) -> CellKernel | str:
    tensors = [*leaves(xs), *leaves(state), *leaves(params)]
    dtypes = {t.dtype for t in tensors}
    if len(dtypes) != 1 or not dtypes <= set(FLOATS):
        return f"dtypes {', '.join(sorted(map(str, dtypes)))}, not one of float32 and float64"
    if any(t.device != "cpu" for t in tensors):
        return "tensors on another device"
    if any(t.ndim != 3 for t in leaves(xs)) or any(t.ndim != 2 for t in leaves(state)):
        return "xs that are not (T, B, I), or a state that is not (B, H)"
    if any(t.shape[-1] == 0 for t in tensors if t.ndim):
        return "a width of 0"
    dtype = dtypes.pop()
    widths, states = [t.shape[2] for t in leaves(xs)], [t.shape[1] for t in leaves(state)]
    try:
        graph = trace(cell, params, widths, states, xs, state, dtype)
    except CannotCompile as reason:
        return str(reason)
    except MinigradError as error:  # the definition says it with the sizes of the call
        return f"it fails: {error}"
    return CellKernel(cell.__name__.strip("<>"), Plan(graph), dtype)


def run_fused(kernel: CellKernel, definition: Callable, cell: Callable, params: Any, xs: Any, state: Any,
              lengths: np.ndarray | None, reverse: bool, every: int | None) -> tuple[Any, Any]:  # fmt: skip
    """``definition(cell, params, xs, state, lengths, reverse, every)`` as one operation."""
    x_leaves, s_leaves, p_leaves = leaves(xs), leaves(state), leaves(params)
    a, b = len(x_leaves), len(x_leaves) + len(s_leaves)
    graph = kernel.plan.cell
    n = len(graph.ys)

    def forward(backend: Any, *arrays: Any, runs: list[Sequence]) -> tuple:
        run = Sequence(kernel, list(arrays[:a]), list(arrays[a:b]), list(arrays[b:]), lengths, reverse, every)
        runs.append(run)
        ys, final = run.forward()
        return (*ys, *final)

    def rule(g: tuple, y: Any, *inputs: Tensor, runs: list[Sequence]) -> list[Tensor | None]:
        if is_recording():  # a derivative of this derivative may be wanted: differentiate the definition
            p, x, s = rebuild(params, inputs[b:]), rebuild(xs, inputs[:a]), rebuild(state, inputs[a:b])
            ys, final = definition(cell, p, x, s, lengths, reverse, every)
            return pull_back(leaves(ys) + leaves(final), g, list(inputs), create_graph=True)
        arrays = [None if c is None else c.data for c in g]
        found = runs[0].backward(arrays[:n], arrays[n:], [x.requires_grad for x in inputs])
        return [None if d is None else Tensor(d) for d in found]

    operation = Operation(f"scan {cell.__name__}", forward, rule)
    results = apply(operation, (*x_leaves, *s_leaves, *p_leaves), {"runs": []})
    return rebuild(graph.y_tree, results[:n]), rebuild(graph.state_tree, results[n:])
