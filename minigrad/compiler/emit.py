"""Floor 4: the text of a cell's two kernels, and its machine code.

Both are bodies of a parallel region (``kernels/cpu/parallel.py``): a worker takes its members of the batch through all
steps without a barrier. Their one argument is a table of numbers: addresses, widths, offsets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.compiler.graph import MEMORY, Matrix, Value
from minigrad.compiler.plan import Buffer, Pass, Place, Plan, Product
from minigrad.compiler.rows import RowFunction, Slots
from minigrad.kernels.cpu import gemm, micro
from minigrad.kernels.cpu.build import emit, load

_HEAD = """
from numba import carray
from minigrad.kernels.cpu.compile import body, unit
from minigrad.kernels.cpu.micro import pointer_to

SIZE = {size}
pointer = pointer_to("{dtype}")


@inline
def array(address, n):
    return carray(pointer(address), (n,))


"""

_LOOP = """@body
def {name}(table, phase, worker, workers):
    t = carray(address_as_int64(table), ({count},))
{unpack}
    off = carray(address_as_int64(offsets), (steps + 1,))            # rows before each step
    split = carray(address_as_int64(shares), (workers + 1,))         # members of each worker
    k = array(constants, {constants})
    first, last = split[worker], split[worker + 1]
    for s in {steps}:
        now = off[s]
        m = min(last, off[s + 1] - now) - first                      # members that are this long
        if m <= 0:
            continue
        before = batch + off[s - 1] if s > 0 else 0
{work}
"""

_ROW = {
    "time": "now + {b}", "before": "before + {b}", "after": "batch + now + {b}", "in": "(s + 1) % 2 * batch + {b}",
    "out": "s % 2 * batch + {b}", "step": "{b}", "one": "0", "worker": "worker",
}  # fmt: skip


@dataclass
class Loop:
    """One direction: what its table holds, by name, and the weights of its products."""

    names: list[str]
    weights: list[Matrix]
    slots: Slots
    text: str
    buffers: list[Buffer]
    constants: np.ndarray = field(default_factory=lambda: np.zeros(0))
    fixed: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # the table, but for what a call brings
    place: dict[str, int] = field(default_factory=dict)  # of the names in the table

    def table(self, panel: int) -> np.ndarray:
        """The table with all that does not change from call to call; ``panel`` columns are in a panel of weights."""
        values = dict(self.slots.sizes)
        values |= {f"w_{b.name}": b.width for b in self.buffers}
        for i, m in enumerate(self.weights):
            values |= {f"u{i}_k": m.k, f"u{i}_n": m.n, f"u{i}_panels": -(-m.n // panel)}
        return np.array([values.get(name, 0) for name in self.names], np.int64)


def _address(place: Place, b: str, sizes: Callable[[Place], str]) -> str:
    name = place.buffer.name
    row = _ROW[place.buffer.rows].format(b=b)
    where = name if row == "0" else f"{name} + SIZE * ({row}) * w_{name}"
    column = sizes(place)
    return where if column == "0" else f"{where} + SIZE * {column}"


def _loop(name: str, plan: Plan, work: Pass, backward: bool) -> tuple[Loop, dict[str, Callable]]:
    slots = Slots()
    buffers: dict[str, Buffer] = {}
    weights: list[Matrix] = []
    functions: dict[str, Callable] = {}
    units, lines = [], []
    stored = {t.value.number for t in work.stores if not t.add}

    def column(place: Place) -> str:
        if place.column == 0:
            return "0"
        return slots.size(("column", place.part.number if place.part is not None else place), place.column)

    def use(place: Place) -> None:
        buffers[place.buffer.name] = place.buffer

    for event, ready in zip(work.events, work.ready):
        if isinstance(event, Product):
            use(event.operand)
            use(event.to)
            w = f"u{len(weights)}"
            weights.append(event.matrix)
            operand, to = (_address(p, "first", column) for p in (event.operand, event.to))
            left, right = f"{operand}, w_{event.operand.buffer.name}, 1, {w}_k", f"{w}, {w}_n, 0, {w}_panels"
            result = f"{to}, w_{event.to.buffer.name}, {int(event.add)}"
            lines.append(f"        call12(gemm, (m, {left}, {right}, {result}))")
            continue

        def place(v: Value, ready: set[int] = ready) -> Place | None:
            if v.base.kind in MEMORY:
                return plan.leaf(v)
            there = v.number in ready or (backward and v.number not in stored)
            return plan.placed.get(v.number) if there else None

        rows = RowFunction(f"{name}_rows{len(units)}", event, place, slots)
        functions |= rows.functions
        units.append(rows.text())
        arrays = []
        for p in rows.arrays.values():
            use(p)
            arrays.append(f"array({_address(p, 'b', column)}, w_{p.buffer.name})")
        lines.append("        for b in range(first, first + m):")
        lines.append(f"            {rows.name}({', '.join([*arrays, *rows.sizes, 'k'])})")
    names = ["gemm", "steps", "batch", "offsets", "shares", "constants"]
    for b in buffers:
        names += [b, f"w_{b}"]
    for i in range(len(weights)):
        names += [f"u{i}", f"u{i}_k", f"u{i}_n", f"u{i}_panels"]
    names += slots.sizes
    unpack = "\n".join(f"    {n} = t[{i}]" for i, n in enumerate(names))
    steps = "range(steps - 1, -1, -1)" if backward else "range(steps)"
    text = "\n\n".join(units) + ("\n\n" if units else "")
    count, constants = len(names), max(1, len(slots.constants))
    body = "\n".join(lines) or "        pass"
    text += _LOOP.format(name=name, count=count, unpack=unpack, constants=constants, steps=steps, work=body)
    return Loop(names, weights, slots, text, list(buffers.values())), functions


class CellKernel:
    """The two compiled loops of a plan, for one dtype."""

    def __init__(self, name: str, plan: Plan, dtype: np.dtype):
        self.plan, self.dtype = plan, dtype
        self.forward, functions = _loop("forward", plan, plan.forward, False)
        self.backward, more = _loop("backward", plan, plan.backward, True)
        head = _HEAD.format(size=dtype.itemsize, dtype=dtype.name)
        intrinsics = [micro.address_as_int64, micro.call12, micro.fast_add, micro.fast_max]
        needed: list[Any] = [*(functions | more).values(), *intrinsics]
        text = head + self.forward.text + "\n\n" + self.backward.text
        title = f"Recurrent cell '{name}', {dtype.name}: all steps forward, all steps backward"
        self.source = emit(title, text, needed, dtype)
        self.module = load(f"cell_{name}_{dtype.name}", self.source)
        for loop in (self.forward, self.backward):
            loop.constants = np.array(loop.slots.constants or [0.0], dtype)
            loop.fixed = loop.table(gemm.panel_width(dtype))
            loop.place = {name: i for i, name in enumerate(loop.names)}
