"""Floor 4: run a compiled cell over a sequence: memory, tables, and the products before and after the loops.

Members of a batch with ``lengths`` are sorted by length and packed: row off[s] + b is step s of the b-th longest, so a
step works on the first m rows and what lies behind the end of a sequence is neither read nor written.
"""

from __future__ import annotations

import numpy as np

from minigrad.compiler.emit import CellKernel, Loop
from minigrad.compiler.graph import Matrix
from minigrad.compiler.plan import Place
from minigrad.kernels.cpu import gemm, parallel

Array = np.ndarray
Some = list[Array | None]
_SERIAL = 300_000  # multiply-adds of a pass below which one thread is faster


class Layout:
    """Which row holds which step of which member. Without lengths, row s B + b."""

    def __init__(self, steps: int, batch: int, lengths: Array | None, reverse: bool):
        self.steps, self.batch, self.reverse = steps, batch, reverse
        self.order: Array | None = None
        if lengths is None:
            self.rows = steps * batch
            self.off = np.arange(steps + 1, dtype=np.int64) * batch
            return
        self.order = np.argsort(-lengths, kind="stable")
        self.lengths = lengths[self.order]
        active = np.arange(steps)[:, None] < self.lengths  # (T, B)
        self.off = np.concatenate([[0], np.cumsum(active.sum(1))]).astype(np.int64)
        self.rows = int(self.off[-1])
        step, member = np.nonzero(active)
        time = self.lengths[member] - 1 - step if reverse else step
        self.index = (time, self.order[member])
        self.before = np.where(step > 0, batch + self.off[step - 1] + member, member)  # row of the state before
        self.last = np.where(self.lengths > 0, batch + self.off[self.lengths - 1] + np.arange(batch), np.arange(batch))

    def pack(self, x: Array) -> Array:
        """(T, B, n) to (rows, n)."""
        if self.order is not None:
            return x[self.index]
        return np.ascontiguousarray(x[::-1] if self.reverse else x).reshape(self.rows, x.shape[2])

    def unpack(self, rows: Array) -> Array:
        """(rows, n) to (T, B, n), 0 behind the ends."""
        if self.order is not None:
            out = np.zeros((self.steps, self.batch, rows.shape[1]), rows.dtype)
            out[self.index] = rows
            return out
        out = rows.reshape(self.steps, self.batch, rows.shape[1])
        return out[::-1] if self.reverse else out

    def sort(self, state: Array) -> Array:
        return state if self.order is None else state[self.order]

    def unsort(self, state: Array) -> Array:
        if self.order is None:
            return state
        out = np.empty_like(state)
        out[self.order] = state
        return out

    def shares(self, workers: int) -> Array:
        """Members of each worker, so that all have about the same number of rows."""
        if self.order is None:
            return np.array([self.batch * w // workers for w in range(workers + 1)], np.int64)
        done = np.concatenate([[0], np.cumsum(self.lengths)])
        cuts = np.searchsorted(done, [done[-1] * w / workers for w in range(workers + 1)]).astype(np.int64)
        cuts[0], cuts[-1] = 0, self.batch
        return cuts


class Run:
    """One forward pass, and what the backward pass needs of it."""

    def __init__(self, kernel: CellKernel, xs: list[Array], states: list[Array], params: list[Array],
                 lengths: Array | None, reverse: bool):  # fmt: skip
        self.kernel, self.plan, self.dtype = kernel, kernel.plan, kernel.dtype
        self.params = params
        self.layout = Layout(*xs[0].shape[:2], lengths, reverse)
        self.memory: dict[str, Array] = {}
        self.initial = states
        self._same_row: set[str] = set()  # cotangents that are 0 in every row
        for i, x in enumerate(xs):
            self.memory[f"x{i}"] = self.layout.pack(x)
        for i, p in enumerate(params):
            if p.ndim < 2 or p.shape[0] == 1:
                self.memory[f"p{i}"] = np.ascontiguousarray(p).reshape(1, -1)

    def forward(self) -> tuple[list[Array], list[Array]]:
        """ys (T, B, n) and final states (B, n)."""
        plan, layout = self.plan, self.layout
        states = []
        for k, first in enumerate(self.initial):
            state = np.empty((layout.batch + layout.rows, first.shape[1]), self.dtype)
            state[: layout.batch] = layout.sort(first)
            self.memory[f"before{k}"] = self.memory[f"after{k}"] = state
            states.append(state)
        self._allocate(self.kernel.forward)
        for product in plan.hoisted:
            gemm.product_into(self.memory[product.to.buffer.name], self._columns(product.operand, product.matrix.k),
                              self._matrix(product.matrix), product.add)  # fmt: skip
        self._run(self.kernel.forward, self.kernel.module.forward.address)
        ys = []
        for j, source in enumerate(plan.y_from):
            rows = self.memory[f"y{j}"] if source is None else states[source][layout.batch :]
            ys.append(layout.unpack(rows))
        last = slice(layout.rows, None) if layout.order is None else layout.last
        return ys, [layout.unsort(s[last]) for s in states]

    def backward(self, gys: Some, gstates: Some) -> tuple[list[Array], list[Array], Some]:
        """Cotangents of xs, initial states and parameters from those of ys and final states."""
        of_forward = dict(self.memory)
        try:
            return self._backward(gys, gstates)
        finally:
            self.memory = of_forward

    def _backward(self, gys: Some, gstates: Some) -> tuple[list[Array], list[Array], Some]:
        plan, layout, batch = self.plan, self.layout, self.layout.batch
        for j, g in enumerate(gys):
            width = plan.cell.ys[j].width
            self.memory[f"gy{j}"] = np.zeros((1, width), self.dtype) if g is None else layout.pack(g)
        self._same_row = {f"gy{j}" for j, g in enumerate(gys) if g is None}
        carries = []
        for k, first in enumerate(self.initial):
            carry = np.zeros((2 * batch, first.shape[1]), self.dtype)
            g = gstates[k]
            if g is not None:  # read by the last step of each member
                ends = layout.steps if layout.order is None else layout.lengths
                carry[ends % 2 * batch + np.arange(batch)] = layout.sort(g)
            self.memory[f"in{k}"] = self.memory[f"out{k}"] = carry
            carries.append(carry)
        self._allocate(self.kernel.backward)
        self._run(self.kernel.backward, self.kernel.module.backward.address)
        for product in plan.late:
            to = self._time(product.to.buffer.name, product.to.buffer.width)
            rows = self._columns(product.operand, product.matrix.k)
            gemm.product_into(to, rows, self._matrix(product.matrix), product.add)
        dxs = [layout.unpack(self._time(f"dx{i}", v.width)) for i, v in enumerate(plan.cell.d_xs)]
        return dxs, [layout.unsort(c[:batch]) for c in carries], self._weight_gradients()

    # ------------------------------------------------------------------ memory

    def _time(self, name: str, width: int) -> Array:
        if name not in self.memory:
            self.memory[name] = np.empty((self.layout.rows, width), self.dtype)
        return self.memory[name]

    def _allocate(self, loop: Loop) -> None:
        for b in [*loop.buffers, *(p.to.buffer for p in self.plan.hoisted)]:
            if b.rows == "time":
                self._time(b.name, b.width)
            elif b.rows == "step":
                self.memory[b.name] = np.empty((self.layout.batch, b.width), self.dtype)
            elif b.rows == "worker":
                self.memory[b.name] = np.zeros((self._workers(loop), b.width), self.dtype)

    def _columns(self, place: Place, width: int) -> Array:
        """All rows of a value, (rows, width)."""
        memory, layout = self.memory[place.buffer.name], self.layout
        if place.buffer.rows == "before":
            memory = memory[: layout.rows] if layout.order is None else memory[layout.before]
        elif place.buffer.rows == "after":
            memory = memory[layout.batch :]
        return memory[:, place.column : place.column + width]

    def _matrix(self, m: Matrix) -> Array:
        p = self.params[m.index]
        return (p.T if m.turned else p)[m.start : m.start + m.k]

    # ------------------------------------------------------------------ the loops

    def _workers(self, loop: Loop) -> int:
        work = self.layout.rows * (sum(m.k * m.n for m in loop.weights) + 50 * sum(b.width for b in loop.buffers))
        return min(parallel.workers(), self.layout.batch) if work > _SERIAL else 1

    def _run(self, loop: Loop, address: int) -> None:
        layout, workers = self.layout, self._workers(loop)
        if layout.rows == 0:
            return
        shares = layout.shares(workers)
        packed = [gemm.panels(self._matrix(m)) for m in loop.weights]
        table, place = loop.fixed.copy(), loop.place
        table[:6] = (gemm.rows_address(self.dtype), layout.steps, layout.batch, layout.off.ctypes.data,
                     shares.ctypes.data, loop.constants.ctypes.data)  # fmt: skip
        for b in loop.buffers:
            table[place[b.name]] = self.memory[b.name].ctypes.data
            if b.name in self._same_row:
                table[place[f"w_{b.name}"]] = 0
        for i, panels in enumerate(packed):
            table[place[f"u{i}"]] = panels.ctypes.data
        parallel.run(address, table.ctypes.data, 1, workers)

    def _weight_gradients(self) -> list[Array | None]:
        found: list[Array | None] = [None] * len(self.params)
        for w in self.plan.gradients:
            p = self.params[w.parameter]
            if w.a is None:
                found[w.parameter] = self.memory[w.g.buffer.name].sum(0).reshape(p.shape)
                continue
            shape = p.shape[::-1] if w.turned else p.shape  # (k, n) as the product sees it
            a, g = self._columns(w.a, w.k), self._columns(w.g, shape[1])
            whole = w.k == shape[0] and found[w.parameter] is None
            if whole:
                out = found[w.parameter] = np.empty(p.shape, p.dtype)
                left, right = (g, a) if w.turned else (a, g)
                gemm.product_into(out, left.T, right)
                continue
            if found[w.parameter] is None:
                found[w.parameter] = np.zeros(p.shape, p.dtype)
            out = found[w.parameter]
            part = gemm.product(a.T, g)
            (out.T if w.turned else out)[w.start : w.start + w.k] += part
        return found
