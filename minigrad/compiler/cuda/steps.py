"""Floor 4: the loop of a compiled cell step by step: a launch for every event, of a product or of a row function.

It takes any size, and wins where a step is large: the products are those of ``kernels/cuda/matmul.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from minigrad.compiler.arrays import Array
from minigrad.compiler.cuda.layout import OnDevice
from minigrad.compiler.cuda.rows import Columns, Table, Warp
from minigrad.compiler.graph import Matrix, Value
from minigrad.compiler.layout import Layout
from minigrad.compiler.plan import Buffer, Pass, Place, Plan, Product, Store
from minigrad.kernels.cuda.kernel import Kernel

Buffers = dict[str, Array]  # (rows, width) by name; the same row for all where the first stride is 0

_COLUMNS = """@kernel
def run({arguments}):
    now, before, after, members = at[4 * s], at[4 * s + 1], at[4 * s + 2], at[4 * s + 3]
    i = cuda.grid(1)
    while i < members * width:
        b = i // width
        j = i % width
{lines}
        i += cuda.gridsize(1)
"""

_WARP = """@kernel
def run({arguments}):
    now, before, after, members = at[4 * s], at[4 * s + 1], at[4 * s + 2], at[4 * s + 3]
    lane = cuda.threadIdx.x % 32
    b = cuda.grid(1) // 32
    while b < members:
{lines}
        b += cuda.gridsize(1) // 32
"""


@cache
def _kernel(name: str, takes: str, text: str, functions: tuple[Callable, ...]) -> Kernel:
    """One for all plans that have this text."""
    return Kernel(None, takes, name=name, text=text, parts=functions)


class Rows:
    """The kernel of a row function: for one step, all members."""

    def __init__(self, name: str, stores: list[Store], place: Callable[[Value], Place | None], dtype: np.dtype):
        self.table = table = Table()
        if Columns.fits(stores, place):
            rows = Columns(name, stores, place, table)
            self.width = max(loop.width for loop in rows.loops)
            blocks = [[f"if j < {loop.size}:", *("    " + line for line in loop.lines)] for loop in rows.loops]
            lines, text = [line for block in blocks for line in block], _COLUMNS
        else:
            rows = Warp(name, stores, place, table)
            self.width, lines, text = 32, rows.lines, _WARP
        constants = [table.constant_name.format(i) for i in range(len(table.constants))]
        arguments = [*table.buffers, "at", "s", "batch", "width", *table.given, *table.sizes, *constants]
        takes = ["T*"] * len(table.buffers) + ["i8*", "i8", "i8", "i8"]
        takes += ["i8"] * (len(table.given) + len(table.sizes)) + ["T"] * len(constants)
        body = text.format(arguments=", ".join(arguments), lines="\n".join(" " * 8 + line for line in lines))
        self.kernel = _kernel(name, " ".join(takes), body, tuple(rows.functions.values()))
        self.dtype, self.constants = dtype, [dtype.type(c) for c in table.constants]

    def run(self, arrays: OnDevice, buffers: Buffers, layout: Layout, s: int, members: int) -> None:
        table, device = self.table, arrays.device
        widths = [buffers[name.removeprefix("w_")].strides[0] for name in table.given]
        numbers = [s, layout.batch, self.width, *widths, *table.sizes.values(), *self.constants]
        device.launch(self.kernel, self.dtype, device.blocks(members * self.width),
                      *[buffers[name] for name in table.buffers], layout.on_device, *numbers)  # fmt: skip


def weight(buffers: Buffers, m: Matrix) -> Array:
    """A weight (k, n) as a product sees it."""
    p = buffers[f"p{m.index}"]
    row = p.strides[0]
    return p.view((m.k, m.n), (1, row) if m.turned else (row, 1), m.start * (1 if m.turned else row))


def columns(x: Array, column: int, width: int, first: int = 0, rows: int | None = None) -> Array:
    """Columns of so many rows (all) of x, from row ``first`` on."""
    rows = x.shape[0] if rows is None else rows
    return x.view((rows, width), x.strides, first * x.strides[0] + column * x.strides[1])


class Steps:
    """The loop of one direction. ``buffers`` are those that it touches."""

    def __init__(self, plan: Plan, work: Pass, name: str, dtype: np.dtype):
        self.plan, self.backward = plan, work is plan.backward
        self.events: list[Product | Rows] = []
        found: dict[str, Buffer] = {}
        for event, ready in zip(work.events, work.ready):
            if isinstance(event, Product):
                self.events.append(event)
                touched = [event.operand.buffer, event.to.buffer]
            else:
                rows = Rows(f"{name}_rows{len(self.events)}", event, plan.places(work, ready), dtype)
                self.events.append(rows)
                touched = list(rows.table.buffers.values())
            found |= {b.name: b for b in touched}
        self.buffers = list(found.values())
        matrices = [e.matrix for e in self.events if isinstance(e, Product)]
        self.weights = [f"{'before' if m.memory else 'p'}{m.index}" for m in matrices]

    @property
    def source(self) -> list[str]:
        """The texts of the row functions."""
        return [f"# {e.kernel.name}\n{e.kernel.text}" for e in self.events if isinstance(e, Rows)]

    def run(self, arrays: OnDevice, buffers: Buffers, layout: Layout) -> None:
        used = [buffers[name] for name in dict.fromkeys([*(b.name for b in self.buffers), *self.weights])]
        key = self, layout, *[x.strides[0] for x in used]
        arrays.graphs.run(key, [*used, layout.on_device], lambda: self._launch(arrays, buffers, layout))

    def _launch(self, arrays: OnDevice, buffers: Buffers, layout: Layout) -> None:
        steps = range(layout.steps)
        for s in steps[::-1] if self.backward else steps:
            now, before, after, members = layout.table[s].tolist()
            first = {"time": now, "before": before, "after": after, "in": (1 - s % 2) * layout.batch,
                     "out": s % 2 * layout.batch}  # fmt: skip
            for event in self.events if members else ():
                if isinstance(event, Product):
                    self._product(arrays, event, buffers, first, members)
                else:
                    event.run(arrays, buffers, layout, s, members)

    def _product(self, arrays: OnDevice, p: Product, buffers: Buffers, first: dict[str, int], members: int) -> None:
        m = p.matrix
        a, c = (columns(buffers[x.buffer.name], x.column, n, first.get(x.buffer.rows, 0), members)
                for x, n in ((p.operand, m.k), (p.to, m.n)))  # fmt: skip
        if m.memory:  # a matrix for each member
            memory = buffers[f"before{m.index}"]
            of_each = (memory.strides[0], 1, m.k) if m.turned else (memory.strides[0], m.n, 1)
            b = memory.view((members, m.k, m.n), of_each)
            a, c = (x.view((members, 1, x.shape[1]), (x.strides[0], *x.strides)) for x in (a, c))
        else:
            b = weight(buffers, m)
        arrays.backend.product_into(c, a, b, p.add)
