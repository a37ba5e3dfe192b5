"""Floor 4: a compiled cell on a device: products before the loop, the loop, products behind it."""

from __future__ import annotations

import numpy as np

from minigrad.compiler.arrays import Array
from minigrad.compiler.cuda.group import GroupLoop
from minigrad.compiler.cuda.layout import OnDevice, on
from minigrad.compiler.cuda.steps import Buffers, Steps, columns, weight
from minigrad.compiler.layout import Layout
from minigrad.compiler.plan import Buffer, MemoryGradient, Place, Plan, Product, WeightGradient, all_rows
from minigrad.compiler.sequence import Given, Launches, Run, Sequence
from minigrad.kernels.cuda.backend import Backend


class DevicePass:
    """One direction of a kernel: what it is ``given`` for all steps, and the ``buffers`` that its loop touches."""

    def __init__(self, plan: Plan, name: str, dtype: np.dtype):
        self.plan, self.backward = plan, name == "backward"
        self.steps = Steps(plan, plan.backward if self.backward else plan.forward, name, dtype)
        self.group = GroupLoop(plan, plan.backward if self.backward else plan.forward, name, dtype)
        self.buffers: list[Buffer] = self.steps.buffers
        read = [p.operand for p in plan.late] + [x for m in plan.memories for x in (m.a, m.g)]
        read += [x for w in plan.gradients if w.a is not None for x in (w.a, w.g)]
        self.given = {all_rows(x) for x in read}

    def run(self, arrays: OnDevice, buffers: Buffers, layout: Layout, more: bool) -> None:
        for p in () if self.backward else self.plan.hoisted:
            self._product_of_rows(arrays, p, buffers)
        self.run_loop(arrays, buffers, layout)
        if not self.backward:
            return
        for p in self.plan.late:
            self._product_of_rows(arrays, p, buffers)
        for m in self.plan.memories:
            self._memory_gradient(arrays, m, buffers, layout)
        for w in self.plan.gradients:
            if w.a is not None:
                self._weight_gradient(arrays, w, w.a, buffers, more)

    def run_loop(self, arrays: OnDevice, buffers: Buffers, layout: Layout) -> None:
        """All events of all steps; ``buffers`` has an array for each buffer of the loop."""
        shape = self.group.shape(arrays.device, layout.batch)
        if shape is None:
            self.steps.run(arrays, buffers, layout)
        else:
            self.group.run(arrays.device, shape, buffers, layout)

    def source(self, arrays: OnDevice) -> list[str]:
        """The texts of the kernels of the loop."""
        found, shape = self.steps.source, self.group.shape(arrays.device, 1)
        if shape is not None:
            whole = f"# {self.group.name}: all steps, for a batch of one\n{self.group.text(shape)}"
            found = [whole, "# For sizes that this does not suit, products and row functions one by one:", *found]
        return found

    def _rows(self, buffers: Buffers, place: Place, width: int) -> Array:
        """A value in all rows."""
        return columns(buffers[all_rows(place)], place.column, width)

    def _product_of_rows(self, arrays: OnDevice, p: Product, buffers: Buffers) -> None:
        if buffers[p.to.buffer.name] is not None:
            a, c = self._rows(buffers, p.operand, p.matrix.k), self._rows(buffers, p.to, p.matrix.n)
            arrays.backend.product_into(c, a, weight(buffers, p.matrix), p.add)

    def _weight_gradient(self, arrays: OnDevice, w: WeightGradient, at: Place, buffers: Buffers, more: bool) -> None:
        """a^T g, or g^T a of the parameter turned, at the rows of the parameter that the product saw."""
        found = buffers[f"d_p{w.parameter}"]
        if found is None:
            return
        a, g = self._rows(buffers, at, w.k), self._rows(buffers, w.g, w.n)
        left, right = (g, a) if w.turned else (a, g)
        c = found[:, w.start : w.start + w.k] if w.turned else found[w.start : w.start + w.k]
        arrays.backend.product_into(c, left.transpose((1, 0)), right, w.add or more)

    def _memory_gradient(self, arrays: OnDevice, m: MemoryGradient, buffers: Buffers, layout: Layout) -> None:
        """a^T g over the steps of each member, which are 0 behind its end."""
        found = buffers[f"d_memory{m.state}"]
        if found is None:
            return
        a, g = (columns(layout.by_step(arrays.contiguous(buffers[all_rows(x)])), x.column, width)
                for x, width in ((m.a, m.k), (m.g, m.n)))  # fmt: skip
        steps, batch = layout.steps, layout.batch
        left = a.view((batch, m.k, steps), (a.strides[0], a.strides[1], batch * a.strides[0]))
        right = g.view((batch, steps, m.n), (g.strides[0], batch * g.strides[0], g.strides[1]))
        arrays.backend.product_into(found.reshape((batch, m.k, m.n)), left, right, True)


class DeviceKernel:
    """A compiled cell on a device, for one dtype. Sums over all steps have a row for each member."""

    stand_in: int | None = None

    def __init__(self, name: str, plan: Plan, dtype: np.dtype, backend: Backend):
        self.plan, self.dtype, self.arrays = plan, dtype, on(backend)
        self.forward, self.backward = (DevicePass(plan, direction, dtype) for direction in ("forward", "backward"))
        self.y_widths, self.dx_widths = [v.width for v in plan.cell.ys], [v.width for v in plan.cell.d_xs]

    @property
    def home(self) -> str:
        return f"for {self.arrays.device.name}"

    @property
    def source(self) -> str:
        return "\n\n".join(text for one in (self.forward, self.backward) for text in one.source(self.arrays))

    def workers(self, batch: int) -> int:
        return batch


class Arrays(Given):
    """By name."""

    def __init__(self, arrays: OnDevice, dtype: np.dtype, rows: int, found: Buffers):
        self.arrays, self.dtype, self.rows, self.found = arrays, dtype, rows, found

    def copy(self) -> Arrays:
        return Arrays(self.arrays, self.dtype, self.rows, dict(self.found))

    def give(self, name: str, array: Array | None) -> None:
        self.found[name] = array

    def give_rows(self, name: str, array: Array | None, width: int) -> None:
        zeros = self.arrays.zeros((1, width), self.dtype).broadcast_to((self.rows, width)) if array is None else array
        self.found[name] = zeros


class DeviceRun(Run):
    arrays: OnDevice

    def _nothing(self) -> Arrays:
        return Arrays(self.arrays, self.dtype, self.layout.rows, {})

    def _call(self, direction: str, given: Arrays, more: bool) -> Launches:  # type: ignore[override]
        place = self.layout
        if place.rows == 0:
            return
        one = getattr(self.kernel, direction)
        mine = [b for b in one.buffers if b.name not in given.found]
        for b in mine:
            rows = place.rows if b.rows == "time" else place.batch
            given.give(b.name, self.arrays.empty((rows, b.width), self.dtype))
        one.run(self.arrays, given.found, place, more)
        for b in mine:
            if b.rows != "time":  # the backward pass needs what lies in time
                del given.found[b.name]
        yield from ()


class DeviceSequence(Sequence):
    run = DeviceRun
