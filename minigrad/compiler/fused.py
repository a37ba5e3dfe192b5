"""Floor 4: a scan as one operation: compiled forward and backward, and its definition for every higher order."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from minigrad.compiler.emit import CellKernel
from minigrad.compiler.plan import Plan
from minigrad.compiler.reader import CannotCompile
from minigrad.compiler.run import HostSequence, together
from minigrad.compiler.sequence import Sequence
from minigrad.compiler.sized import Shapes, Sized, memory_size, patterns, sized
from minigrad.compiler.trace import CellGraph, trace
from minigrad.engine import Operation, Tensor, apply, is_recording
from minigrad.engine.backward import by_definition
from minigrad.engine.tensor import FLOATS
from minigrad.engine.tree import flatten, leaves, rebuild
from minigrad.errors import MinigradError
from minigrad.kernels import BACKENDS, devices

if TYPE_CHECKING:  # what runs on a GPU is imported when there is one
    from minigrad.compiler.cuda.run import DeviceKernel

    Kernel = CellKernel | DeviceKernel

_KNOWN: weakref.WeakKeyDictionary[Callable, dict[Any, Kernel | Sized | str]] = weakref.WeakKeyDictionary()


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


@dataclass(frozen=True)
class Call:
    """A scan: its cell, and what it is given. ``groups`` are the leaves of xs, state and params."""

    cell: Callable
    params: Any
    xs: Any
    state: Any
    lengths: Any = None
    reverse: bool = False
    every: int | None = None
    groups: tuple[list[Tensor], list[Tensor], list[Tensor]] = field(init=False, repr=False)
    trees: tuple[Any, Any, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = [flatten(tree) for tree in (self.xs, self.state, self.params)]
        self.__dict__["groups"], self.__dict__["trees"] = zip(*found)


def kernel_of(call: Call) -> Kernel | str:
    """The compiled cell for leaves of such shapes, or the reason why there is none."""
    if not isinstance(call.cell, types.FunctionType):
        return "the cell is no plain function"
    try:
        arrays = [[t.data for t in group] for group in call.groups]
        shapes = [tuple([a.shape[drop:] for a in group]) for group, drop in zip(arrays, (2, 1, 0))]
        kinds = {(type(a), a.dtype) for group in arrays for a in group}
    except AttributeError:
        return "a leaf of params, xs or state is no tensor"
    try:
        key = (*shapes, *kinds, call.trees, _outside(call.cell))
    except _Changing:
        return _compile(call)
    known = _KNOWN.get(call.cell)
    if known is None:
        known = _KNOWN[call.cell] = {}
    found = known.get(key)
    if found is None:
        size = memory_size(shapes[1]) if call.groups[0][0].device == "cpu" else None
        found = known[key] = _of_size(call, size, key, known) if size else _compile(call)
    return found


_ODD_SIZE = "its graph for memories of this size is not that for others"


def _of_size(call: Call, size: int, key: tuple, known: dict) -> Kernel | str:
    """For memories of this size: by what is ``known`` for every size, or will be from now on, if that can be. A cell
    may look at the size, so its graph for this one is made, too, and compared; the simpler one for S = 1 is not worth a
    kernel of its own."""
    graph = _graph(call)
    if isinstance(graph, str):
        return graph
    for general, found in list(known.items()):
        if isinstance(found, Sized) and (general[0], sized(general[1], size), *general[2:]) == key:
            return found(size) if found.fits(graph, size) else _ODD_SIZE
    for pattern in patterns(key[1], size):
        found = _compile_sized(call, pattern)
        if found is not None:
            known[(key[0], pattern, *key[2:])] = found
            return found(size) if found.fits(graph, size) else _ODD_SIZE
    return _kernel(call, graph)


def _compile_sized(call: Call, pattern: Shapes) -> Sized | None:
    """For memories of every size, if that can be."""
    sizes = {n for group in call.groups for t in group for n in t.shape}
    low, high = [n for n in (211, 223, 227, 229, 233, 239, 241, 251, 257) if n not in sizes][:2]
    kernels = []
    for n in (low, high):
        found = _compile(call, sized(pattern, n))
        if isinstance(found, str):
            return None
        kernels.append(found)
    return Sized.of((low, high), *kernels)


def _compile(call: Call, states: Shapes | None = None) -> Kernel | str:
    """For leaves of such shapes, but with ``states`` behind the batch if given."""
    graph = _graph(call, states)
    return graph if isinstance(graph, str) else _kernel(call, graph)


def _kernel(call: Call, graph: CellGraph) -> Kernel:
    x, name = call.groups[0][0], call.cell.__name__.strip("<>")
    if x.device == "cpu":
        return CellKernel(name, Plan(graph), x.dtype)
    from minigrad.compiler.cuda.run import DeviceKernel

    return DeviceKernel(name, Plan(graph), x.dtype, BACKENDS[type(x.data)])


def _sequence(kernel: Kernel) -> type[Sequence]:
    if isinstance(kernel, CellKernel):
        return HostSequence
    from minigrad.compiler.cuda.run import DeviceSequence

    return DeviceSequence


def _graph(call: Call, states: Shapes | None = None) -> CellGraph | str:
    """Of the cell, or the reason why there is none."""
    xs, state, params = call.groups
    tensors = [*xs, *state, *params]
    dtypes = {t.dtype for t in tensors}
    if len(dtypes) != 1 or not dtypes <= set(FLOATS):
        return f"dtypes {', '.join(sorted(map(str, dtypes)))}, not one of float32 and float64"
    if len(backends := {BACKENDS[type(t.data)] for t in tensors}) != 1 or not backends <= {*devices().values()}:
        return "tensors of several devices"
    if any(t.ndim != 3 for t in xs) or any(t.ndim not in (2, 3) for t in state):
        return "xs that are not (T, B, I), or a state that is not (B, H) or a memory (B, S, A)"
    if any(0 in t.shape[-1:] for t in tensors) or any(0 in t.shape[1:] for t in state):
        return "a width of 0"
    dtype = dtypes.pop()
    widths = [t.shape[2] for t in xs]
    try:
        shapes = states or [t.shape[1:] for t in state]
        return trace(call.cell, call.params, widths, shapes, call.xs, call.state, dtype)
    except CannotCompile as reason:
        return str(reason)
    except MinigradError as error:  # the definition says it with the sizes of the call
        return f"it fails: {error}"
    except Exception as error:  # what the reader of traces did not foresee; the definition needs no compiler
        return f"the compiler does not understand it: {type(error).__name__}: {error}"


def run_fused(kernels: list[Kernel], definition: Callable, calls: list[Call]) -> list[tuple[Any, Any]]:
    """``definition`` of every call, all as one operation, so that they may run at the same time."""
    parts = _parts([sum(map(len, call.groups)) for call in calls])
    outputs = _parts([len(k.plan.cell.ys) + len(k.plan.cell.states) for k in kernels])

    def forward(backend: Any, *arrays: Any, calls: list[Call], runs: list[Sequence]) -> tuple:
        for call, kernel, part in zip(calls, kernels, parts):
            given = iter(arrays[part])
            xs, states, params = ([next(given) for _ in group] for group in call.groups)
            runs.append(_sequence(kernel)(kernel, xs, states, params, call.lengths, call.reverse, call.every))
        found = together([run.forward() for run in runs])
        return tuple([array for ys, final in found for array in (*ys, *final)])

    def rule(g: tuple, y: Any, *inputs: Tensor, calls: list[Call], runs: list[Sequence]) -> list[Tensor | None]:
        if is_recording():  # a derivative of this derivative may be wanted: differentiate the definition
            results = [_of_definition(call, inputs[part]) for call, part in zip(calls, parts)]
            return by_definition([y for ys in results for y in ys], g, inputs)
        passes = []
        for run, part, out in zip(runs, parts, outputs):
            arrays, n = [None if c is None else c.data for c in g[out]], len(run.plan.cell.ys)
            passes.append(run.backward(arrays[:n], arrays[n:], [x.requires_grad for x in inputs[part]]))
        return [None if d is None else Tensor(d) for found in together(passes) for d in found]

    def _of_definition(call: Call, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        given = iter(inputs)
        x, s, p = (rebuild(tree, [next(given) for _ in leaves(tree)]) for tree in (call.xs, call.state, call.params))
        ys, final = definition(replace(call, xs=x, state=s, params=p))
        return leaves(ys) + leaves(final)

    attrs = {"calls": calls, "runs": []}  # dropped when the graph is freed
    operation = Operation(f"scan {calls[0].cell.__name__}", forward, rule)
    results = apply(operation, tuple([t for call in calls for group in call.groups for t in group]), attrs)
    found = []
    for kernel, out in zip(kernels, outputs):
        graph, values = kernel.plan.cell, results[out]
        n = len(graph.ys)
        found.append((rebuild(graph.y_tree, values[:n]), rebuild(graph.state_tree, values[n:])))
    return found


def _parts(counts: list[int]) -> list[slice]:
    """So many of a list, one part behind another."""
    ends = [0, *accumulate(counts)]
    return [slice(a, b) for a, b in pairwise(ends)]
