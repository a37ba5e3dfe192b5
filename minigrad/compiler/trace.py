"""Floor 4: from a cell to its graph, and to the graph of its gradients.

The cell runs once on abstract arrays while every operation is noted; then the engine's own backward pass
runs on what was recorded, with the operations' own gradient rules, and is noted too. Nothing here differentiates.
What was noted is then read as values of one row (``reader.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from minigrad.compiler.graph import Graph, Value
from minigrad.compiler.reader import CannotCompile, Gradient, Reader, Term, Weights
from minigrad.engine import Operation, Tensor, enable_grad, observe
from minigrad.engine.backward import pull_back
from minigrad.engine.tree import leaves, rebuild
from minigrad.kernels.abstract import Abstract


@dataclass
class CellGraph:
    """What a cell computes, and the gradients. Lists follow the leaves of state, y, x and parameters."""

    graph: Graph
    states: list[Value]  # after the step
    ys: list[Value]
    d_states: list[Value | None] = field(default_factory=list)  # cotangents of the states before the step
    d_memories: dict[int, list[Term]] = field(default_factory=dict)  # in place of those, what a step adds to them
    d_xs: list[Value] = field(default_factory=list)
    d_params: list[Gradient | None] = field(default_factory=list)
    parameters: list[tuple[int, ...]] = field(default_factory=list)  # shapes
    forward_size: int = 0  # values below this number belong to the forward pass
    state_tree: Any = None  # containers of the state and of y, as the cell returns them
    y_tree: Any = None


Step = tuple[Operation, tuple[Tensor, ...], dict[str, Any], Any]


def trace(cell: Callable, params: Any, widths: list[int], states: list[tuple[int, ...]], xs: Any, state: Any,
          dtype: Any) -> CellGraph:  # fmt: skip
    """The graph of ``cell`` for x leaves of these widths and state leaves of these shapes, (n,) or (S, A), behind the
    batch; ``xs`` and ``state`` give the containers."""
    sizes = {n for p in leaves(params) for n in p.shape} | {*widths, *(n for shape in states for n in shape)}
    batches = [b for b in (97, 89, 83, 79, 73, 71, 67, 61, 1009, 1013) if b not in sizes]  # that nothing else has
    found, other = (_trace(cell, params, widths, states, xs, state, dtype, batch) for batch in batches[:2])
    if found.graph.entries() != other.graph.entries():
        raise CannotCompile("it uses the size of the batch")
    return found


def _trace(cell: Callable, params: Any, widths: list[int], states: list[tuple[int, ...]], xs: Any, state: Any,
           dtype: Any, batch: int) -> CellGraph:  # fmt: skip
    def leaf(*shape: int) -> Tensor:
        return Tensor(Abstract(shape, dtype), True)

    x_leaves, s_leaves = [leaf(batch, n) for n in widths], [leaf(batch, *shape) for shape in states]
    p_leaves = [leaf(*p.shape) for p in leaves(params)]
    noted: list[Step] = []
    try:
        with enable_grad(), observe(lambda *step: noted.append(step)):
            try:
                result = cell(rebuild(params, p_leaves), rebuild(xs, x_leaves), rebuild(state, s_leaves))
            except TypeError:
                raise
            except Exception as error:  # the definition meets it too, and says it with the sizes of the call
                raise CannotCompile(f"it fails: {error}") from None
            if not isinstance(result, tuple) or len(result) != 2:
                raise CannotCompile("the cell returns no pair (state, y_t)")
            new, y = result
            outputs = leaves(new) + leaves(y)
            if not all(isinstance(v, Tensor) and v.dtype == dtype for v in outputs):
                raise CannotCompile(f"a result that is no tensor of {dtype}")
            if len(leaves(new)) != len(s_leaves) or any(a.shape != b.shape for a, b in zip(leaves(new), s_leaves)):
                raise CannotCompile("the state changes its structure or shape")
            if any(v.shape[:1] != (batch,) or v.ndim != 2 for v in outputs[len(s_leaves) :]):
                raise CannotCompile("a result is no row of numbers for each member of the batch")
            size = len(noted)
            gs = [leaf(*v.shape) for v in outputs]
            inputs = x_leaves + s_leaves + p_leaves
            found = pull_back(outputs, gs, inputs, create_graph=True)
    except TypeError as error:
        raise CannotCompile(f"it looks at values: {error}") from None
    reader = Reader(batch)
    for kind, group in (("x", x_leaves), ("state", s_leaves)):
        for i, t in enumerate(group):
            if t.ndim == 3:
                reader.know(t, Weights(i, memory=True))
            else:
                reader.know(t, reader.graph.make(kind, (), i, t.shape[1]))
    for i, t in enumerate(p_leaves):
        reader.know(t, reader.parameter(i, t))
    for step in noted[:size]:
        reader.read(*step)
    count = len(s_leaves)
    for i, t in enumerate(s_leaves):
        if t.ndim == 3 and outputs[i].data is not t.data:
            raise CannotCompile("a state of three axes that a step changes")
    rows = [reader.memory(i, v) if v.ndim == 3 else reader.row(v) for i, v in enumerate(outputs)]
    graph = CellGraph(reader.graph, rows[:count], rows[count:], forward_size=len(reader.graph.values))
    graph.parameters = [t.shape for t in p_leaves]
    graph.state_tree, graph.y_tree = (rebuild(t, "*" * len(leaves(t))) for t in (new, y))
    for i, g in enumerate(gs):
        kind, at = ("gs", i) if i < count else ("gy", i - count)
        reader.know(g, reader.outer() if g.ndim == 3 else reader.graph.make(kind, (), at, g.shape[1]))
    for step in noted[size:]:
        reader.read(*step)
    for i, (t, g) in enumerate(zip(inputs, found)):
        if i >= len(inputs) - len(p_leaves):
            graph.d_params.append(None if g is None else reader.gradient(g))
            if g is not None and len({term.a is None for term in graph.d_params[-1].terms}) == 2:
                raise CannotCompile("a parameter used both as a vector and as a matrix")
        elif t.ndim == 3:
            graph.d_memories[len(graph.d_states)] = reader.memory_gradient(reader.get(g)).terms
            graph.d_states.append(None)
        else:
            row = reader.graph.spread(reader.graph.constant(0), t.shape[1]) if g is None else reader.row(g)
            (graph.d_xs if i < len(x_leaves) else graph.d_states).append(row)
    return graph
