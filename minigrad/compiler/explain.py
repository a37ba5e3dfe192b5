"""Floor 4: what the compiler makes of a cell, for people to read: graph, plan and generated kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad.compiler.fused import Call, kernel_of
from minigrad.compiler.graph import text
from minigrad.compiler.plan import Plan, Product
from minigrad.compiler.scan import scan
from minigrad.errors import MinigradError, describe


def explain(function: Callable, cell: Callable, params: Any, xs: Any, state: Any) -> str:
    r"""The graph of a cell under ``mg.scan`` (forward, and the gradients), the plan, and the source of its kernels;
    or what keeps it from being compiled.

    >>> import minigrad as mg
    >>> def leaky(p, x, h):
    ...     h = p * h + x
    ...     return h, h
    >>> x, h = mg.tensor([[[1.0, 2.0]]]), mg.tensor([[0.0, 0.0]])
    >>> print(mg.explain(mg.scan, leaky, mg.tensor(0.5), x, h).split("\n\n")[0])
    Graph of 'leaky', one row of one step
    %0 = x0   # 2
    %1 = state0   # 2
    %2 = p0
    %3 = mul(%2, %1)   # 2
    %4 = add(%3, %0)   # 2
    state0 = %4
    y0 = %4
    """
    if function is not scan:
        raise MinigradError(describe("explain", getattr(function, "__name__", repr(function)), "mg.scan"))
    kernel = kernel_of(Call(cell, params, xs, state))
    if isinstance(kernel, str):
        return f"'{getattr(cell, '__name__', type(cell).__name__)}' runs step by step by its definition: {kernel}"
    graph = kernel.plan.cell
    states = {f"state{k}": v for k, v in enumerate(graph.states) if k not in graph.d_memories}
    forward = states | {f"y{j}": v for j, v in enumerate(graph.ys)}
    backward = {f"d_state{k}": v for k, v in enumerate(graph.d_states) if v}
    backward |= {f"d_x{i}": v for i, v in enumerate(graph.d_xs)}
    for k, found in graph.d_memories.items():
        backward |= {f"d_state{k} term {n}: {term.a}^T times": term.g for n, term in enumerate(found)}
    for i, gradient in enumerate(graph.d_params):
        for n, term in enumerate(gradient.terms if gradient else ()):
            backward[f"d_p{i} term {n}: {f'{term.a}^T times' if term.a else 'sum of'}"] = term.g
    note = f"; {kernel.stand_in} stands for any S of its memories (B, S, A)" if kernel.stand_in else ""
    parts = [
        f"Graph of '{cell.__name__}', one row of one step{note}\n{text(forward)}",
        f"Its gradients\n{text(backward)}",
        f"Plan\n{_plan(kernel.plan)}",
        f"Kernels, {kernel.home}\n{kernel.source}",
    ]
    return "\n\n".join(parts)


def _product(p: Product) -> str:
    return f"{p.to.buffer.name} {'+=' if p.add else '='} {p.operand.buffer.name} @ {p.matrix}"


def _plan(plan: Plan) -> str:
    lines = [f"before the loop, for all steps at once: {_product(p)}" for p in plan.hoisted]
    for name, work in (("forward", plan.forward), ("backward", plan.backward)):
        for event in work.events:
            if isinstance(event, Product):
                lines.append(f"{name}, each step: {_product(event)}")
            else:
                stored = ", ".join(dict.fromkeys(t.place.buffer.name for t in event))
                lines.append(f"{name}, each step: row function stores {stored}")
    lines += [f"after the loop, for all steps at once: {_product(p)}" for p in plan.late]
    for m in plan.memories:
        lines.append(f"after the loop, for each member: d_state{m.state} += {m.a.buffer.name}^T {m.g.buffer.name}")
    for w in plan.gradients:
        if w.a is None:
            lines.append(f"after the loop: d_p{w.parameter} = sum of {w.g.buffer.name}")
        else:
            turned = ", turned" if w.turned else ""
            lines.append(f"after the loop: d_p{w.parameter} = {w.a.buffer.name}^T {w.g.buffer.name}{turned}")
    return "\n".join(lines)
