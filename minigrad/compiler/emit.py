"""Floor 4: the text of a cell's two kernels, and its machine code.

Both are bodies of a parallel region (``kernels/cpu/parallel.py``) in phases: pack the weights, products of all rows
before the loop, the loop, products of all rows behind it. In the loop a worker takes its members of the batch through
all steps without a barrier. Their one argument is a table of numbers: addresses, widths, offsets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.compiler.arrays import HOST
from minigrad.compiler.graph import Matrix
from minigrad.compiler.plan import Buffer, MemoryGradient, Pass, Place, Plan, Product, WeightGradient, all_rows
from minigrad.compiler.rows import RowFunction, Slots
from minigrad.kernels.cpu import gemm, members, micro, parallel, shares
from minigrad.kernels.cpu.build import emit, load

_HEAD = """
from numba import carray
from minigrad.kernels.cpu.compile import body, unit
from minigrad.kernels.cpu.micro import pointer_to

{constants}
pointer = pointer_to("{dtype}")


"""

_BODY = """@body
def {name}(table, phase, worker, workers):
    t = carray(address_as_int64(table), ({count},))
{unpack}
{phases}
"""

_LOOP = """        at = carray(address_as_int64(layout), (4 * steps,))
        split = carray(address_as_int64(shares), (workers + 1,))         # members of each worker
        k = pointer(constants)
        first, last = split[worker], split[worker + 1]
        for s in {steps}:
{ahead}            now, before, after, members = at[4 * s], at[4 * s + 1], at[4 * s + 2], at[4 * s + 3]   # rows
            m = min(last, members) - first
            if m <= 0:
                continue
{work}"""

ROW = {
    "time": "now + {b}", "before": "before + {b}", "after": "after + {b}", "in": "(s + 1) % 2 * batch + {b}",
    "out": "s % 2 * batch + {b}", "step": "{b}", "member": "{b}", "one": "0", "worker": "worker",
}  # fmt: skip

_GIVEN = ("steps", "batch", "rows", "layout", "shares", "more")  # by every call
_FIXED = ("gemm", "pack", "constants")


@dataclass
class Loop:
    """One direction: its text, and what its table holds: first what each call brings, then numbers that stay."""

    given: list[str]
    fixed: np.ndarray
    constants: np.ndarray
    phases: int
    buffers: list[Buffer]  # that the loop touches
    packs: list[tuple[str, int]]  # packed weights: name and size
    work: int  # arithmetic of one row, about
    scratch: int  # numbers for each row, of an operand packed

    def use(self, constants: np.ndarray) -> None:
        self.constants = constants
        self.fixed[len(self.given) + _FIXED.index("constants")] = constants.ctypes.data


class _Text:
    """Writes one direction, collecting the names that its table must hold."""

    def __init__(self, name: str, plan: Plan, work: Pass, backward: bool, dtype: np.dtype):
        self.name, self.plan, self.work, self.backward, self.dtype = name, plan, work, backward, dtype
        self.slots = Slots()
        self.buffers: dict[str, Buffer] = {}
        self.given: dict[str, None] = dict.fromkeys(_GIVEN)
        self.weights: dict[Matrix, str] = {}
        self.functions: dict[str, Callable] = {}
        self.units: list[str] = []
        self.phases: list[list[str]] = []
        before, after = self._around()
        loop = self._loop()
        packs = [self._pack(m, name) for m, name in self.weights.items()]
        self.phases = [p for p in [packs, before, loop, *after] if p]

    # ------------------------------------------------------------------ places and weights

    def _column(self, place: Place) -> str:
        column = self.slots.column(place)
        return f" + SIZE * {column}" if column else ""

    def _address(self, place: Place, b: str) -> str:
        """Of row b in the loop."""
        buffer = place.buffer
        self.buffers[buffer.name] = buffer
        self.given[buffer.name] = None
        row = ROW[buffer.rows].format(b=b)
        where = buffer.name if row == "0" else f"{buffer.name} + SIZE * ({row}) * {self._width(buffer)}"
        return where + self._column(place)

    def _width(self, buffer: Buffer) -> str:
        if buffer.rows == "time" and buffer.name.startswith("gy"):  # 0 where the cotangent is zero in every row
            self.given[f"w_{buffer.name}"] = None
            return f"w_{buffer.name}"
        return self.slots.named(f"w_{buffer.name}", buffer.width)

    def _rows(self, place: Place) -> str:
        """Address of a value in all rows."""
        self.given[all_rows(place)] = None
        return all_rows(place) + self._column(place)

    def _weight(self, m: Matrix) -> str:
        name = self.weights.setdefault(m, f"u{len(self.weights)}")
        self.given[name] = None
        self.slots.named(f"{name}_k", m.k)
        self.slots.named(f"{name}_n", m.n)
        return name

    def _parameter(self, i: int, start: int, turned: bool) -> str:
        """Address of the first number of rows ``start`` .. of the weight as a product sees it."""
        self.given[f"p{i}"] = None
        length = self.slots.named(f"p{i}_row", self.plan.cell.parameters[i][-1])
        if not start:
            return f"p{i}"
        return f"p{i} + SIZE * {self.slots.size(('start', i, start), start)}" + ("" if turned else f" * {length}")

    def _pack(self, m: Matrix, name: str) -> str:
        source, row = self._parameter(m.index, m.start, m.turned), f"p{m.index}_row"
        strides = f"1, {row}" if m.turned else f"{row}, 1"
        return f"call8(pack, ({source}, {strides}, {name}_k, {name}_n, {name}, worker, workers))"

    # ------------------------------------------------------------------ the loop

    def _loop(self) -> list[str]:
        lines = []
        for event, ready in zip(self.work.events, self.work.ready):
            if isinstance(event, Product):
                lines.append(self._product(event))
                continue
            place = self.plan.places(self.work, ready)
            rows = RowFunction(f"{self.name}_rows{len(self.units)}", event, place, self.slots)
            self.functions |= rows.functions
            self.units.append(rows.text())
            arrays = [f"pointer({self._address(p, 'b')})" for p in rows.arrays.values()]
            lines.append("for b in range(first, first + m):")
            lines.append(f"    {rows.name}({', '.join([*arrays, *rows.sizes, 'k'])})")
        if not lines:
            return []
        work = "\n".join(" " * 12 + line for line in lines)
        steps = "range(steps - 1, -1, -1)" if self.backward else "range(steps)"
        ahead = ""
        if self.plan.hoisted and not self.backward:
            self.given["chunk"] = None
            ahead = " " * 12 + "if chunk and s % chunk == 0:\n"
            ahead += "".join(f"{' ' * 16}{self._product_ahead(p)}\n" for p in self.plan.hoisted)
        return _LOOP.format(steps=steps, work=work, ahead=ahead).split("\n")

    def _product(self, p: Product) -> str:
        operand, to = self._address(p.operand, "first"), self._address(p.to, "first")
        if p.matrix.memory:
            return self._product_of_members(p, operand, to)
        w = self._weight(p.matrix)
        panels = f"({w}_n + WIDTH - 1) // WIDTH"
        left = f"m, {operand}, {self._width(p.operand.buffer)}, 1, {w}_k"
        return f"call12(gemm, ({left}, {w}, {w}_n, 0, {panels}, {to}, {self._width(p.to.buffer)}, {int(p.add)}))"

    # ------------------------------------------------------------------ memories

    def _members(self, name: str) -> str:
        """The address of a kernel."""
        return self.slots.named(name, getattr(members.kernels(self.dtype), name))

    def _product_of_members(self, p: Product, operand: str, to: str) -> str:
        m = p.matrix
        memory = Place(self.plan.memory(m.index))
        kernel = self._members("times_turned" if m.turned else "times")
        k, n = (self.slots.size((side, m), size) for side, size in (("k", m.k), ("n", m.n)))
        left = f"m, {operand}, {self._width(p.operand.buffer)}, {k}"
        matrices = f"{self._address(memory, 'first')}, {self._width(memory.buffer)}"
        return f"call12({kernel}, ({left}, {matrices}, {n}, {to}, {self._width(p.to.buffer)}, {int(p.add)}, 0, 0))"

    def _memory_gradient(self, i: int, d: MemoryGradient) -> str:
        """For this worker's members, whose rows it has made itself."""
        to = f"d_memory{d.state}"
        self.given[to] = None
        a, g = (f"{self._rows(v)}, {self._width(v.buffer)}" for v in (d.a, d.g))
        k, n = (self.slots.size((side, "of gradient", i), size) for side, size in (("k", d.k), ("n", d.n)))
        call = f"layout, steps, split[worker], split[worker + 1], {a}, {k}, {g}, {n}, {to}, 0"
        return f"if {to}:\n            call12({self._members('outer')}, ({call}))"

    # ------------------------------------------------------------------ products of all rows

    def _around(self) -> tuple[list[str], list[list[str]]]:
        """The phase before the loop, and those behind it."""
        if not self.backward:
            return [f"if not chunk:\n            {self._product_of_rows(p)}" for p in self.plan.hoisted], []
        after = [[f"if {p.to.buffer.name}:\n            {self._product_of_rows(p)}" for p in self.plan.late]]
        if self.plan.memories:
            after[0].append("split = carray(address_as_int64(shares), (workers + 1,))")
            after[0] += [self._memory_gradient(i, d) for i, d in enumerate(self.plan.memories)]
        for w in self.plan.gradients:
            if w.a is not None:
                pack, product = self._weight_gradient(w, w.a)
                guard = f"if d_p{w.parameter}:\n            "
                if len(after) > 1:  # all weights share one scratch: a barrier stands between
                    after.append([])
                after[-1].append(guard + pack)
                after.append([guard + product])
        return [], after

    def _product_of_rows(self, p: Product) -> str:
        operand, to, w = self._rows(p.operand), self._rows(p.to), self._weight(p.matrix)
        left = f"gemm, rows, {operand}, {self._width(p.operand.buffer)}, 1, {w}_k"
        return f"product({left}, {w}, {w}_n, {to}, {self._width(p.to.buffer)}, {int(p.add)}, worker, workers)"

    def _product_ahead(self, p: Product) -> str:
        """``_product_of_rows``, for the next steps and the members of this worker."""
        operand, to, w = self._rows(p.operand), self._rows(p.to), self._weight(p.matrix)
        left = f"gemm, at, s, min(s + chunk, steps), first, last, {operand}, {self._width(p.operand.buffer)}, {w}_k"
        return f"product_of_steps({left}, {w}, {w}_n, {to}, {self._width(p.to.buffer)}, {int(p.add)})"

    def _weight_gradient(self, w: WeightGradient, a: Place) -> tuple[str, str]:
        """Pack one operand of a^T g (or g^T a, of the parameter turned), and multiply."""
        self.given |= dict.fromkeys((f"d_p{w.parameter}", "scratch"))
        self._parameter(w.parameter, 0, w.turned)
        k = self.slots.size(("terms", w.parameter, w.start, w.k), w.k)
        n = self.slots.size(("terms", w.parameter), w.n)
        a_row, g_row = self._width(a.buffer), self._width(w.g.buffer)
        at_a, at_g = self._rows(a), self._rows(w.g)
        left, right = ((at_g, g_row, n), (at_a, a_row, k)) if w.turned else ((at_a, a_row, k), (at_g, g_row, n))
        to, row = f"d_p{w.parameter}", f"p{w.parameter}_row"
        if w.start:
            start = self.slots.size(("start", w.parameter, w.start), w.start)
            to += f" + SIZE * {start}" + ("" if w.turned else f" * {row}")
        add = "1" if w.add else "more"
        pack = f"call8(pack, ({right[0]}, {right[1]}, 1, rows, {right[2]}, scratch, worker, workers))"
        product = (
            f"product(gemm, {left[2]}, {left[0]}, 1, {left[1]}, rows, scratch, {right[2]}, {to}, {row}, {add}, "
            "worker, workers)"
        )
        return pack, product

    # ------------------------------------------------------------------ all of it

    def text(self) -> str:
        names = [*self.given, *_FIXED, *self.slots.sizes]
        unpack = "\n".join(f"    {n} = t[{i}]" for i, n in enumerate(names))
        parts = []
        for i, lines in enumerate(self.phases):
            head = f"    {'if' if i == 0 else 'elif'} phase == {i}:"
            parts.append("\n".join([head, *(line if line[:1] == " " else " " * 8 + line for line in lines)]))
        body = _BODY.format(name=self.name, count=len(names), unpack=unpack, phases="\n".join(parts) or "    pass")
        return "\n\n".join([*self.units, body])

    def loop(self) -> Loop:
        constants = np.array(self.slots.constants or [0.0], self.dtype)
        kernels = gemm.kernels(self.dtype)
        fixed = [kernels.rows, kernels.pack_panels, 0, *self.slots.sizes.values()]
        table = np.array([0] * len(self.given) + fixed, np.int64)
        packs = [(name, m.k * kernels.width * -(-m.n // kernels.width)) for m, name in self.weights.items()]
        buffers = list(self.buffers.values())
        memories = {self.plan.memory(k) for k in self.plan.cell.d_memories}
        work = sum(m.k * m.n for m in self.weights) + sum((1 if b in memories else 50) * b.width for b in buffers)
        operands = [w.k if w.turned else w.n for w in self.plan.gradients if self.backward and w.a is not None]
        scratch = max([kernels.width * -(-n // kernels.width) for n in operands], default=0)
        loop = Loop(list(self.given), table, constants, len(self.phases), buffers, packs, work, scratch)
        loop.use(constants)
        return loop


class CellKernel:
    """The two compiled passes of a plan, for one dtype. ``stand_in`` stands for any S in the plan (``sized.py``)."""

    stand_in: int | None = None
    arrays = HOST

    def __init__(self, name: str, plan: Plan, dtype: np.dtype):
        self.plan, self.dtype = plan, dtype
        forward = _Text("forward", plan, plan.forward, False, dtype)
        backward = _Text("backward", plan, plan.backward, True, dtype)
        head = _HEAD.format(constants=gemm.constants(dtype), dtype=dtype.name)
        needed: list[Any] = [*(forward.functions | backward.functions).values()]
        needed += [shares.product, shares.product_of_steps, micro.address_as_int64, micro.call8, micro.call12]
        needed += [micro.fast_add, micro.fast_max]
        title = f"Recurrent cell '{name}', {dtype.name}: all steps forward, all steps backward"
        self.source = emit(title, head + forward.text() + "\n\n" + backward.text(), needed, dtype)
        self.module = load(f"cell_{name}_{dtype.name}", self.source)
        self.forward, self.backward = forward.loop(), backward.loop()
        self.y_widths, self.dx_widths = [v.width for v in plan.cell.ys], [v.width for v in plan.cell.d_xs]

    @property
    def home(self) -> str:
        """Where the source lies."""
        return str(self.module.__file__)

    def workers(self, batch: int) -> int:
        return parallel.workers()
