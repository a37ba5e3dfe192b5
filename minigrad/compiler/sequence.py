"""Floor 4: run a compiled cell over a sequence, on any device: its memory, its segments, what is given and taken back.

``Run`` works on rows (``layout.py``). ``Sequence`` puts a user's (T, B, n) into rows, runs it whole or in segments of
which only the states between are kept, and takes the results out again. Their passes are generators that yield each
launch that can run beside those of others; a device whose kernels run one after another yields none.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, ClassVar, Protocol

import numpy as np

from minigrad.compiler.arrays import Array, Host
from minigrad.compiler.layout import Layout, layout
from minigrad.compiler.plan import Buffer, Plan

Some = list[Array | None]
Launches = Generator[Any, None, Any]


class Pass(Protocol):
    """One direction of a kernel: names of what it is given, and the buffers that it touches."""

    given: Any
    buffers: list[Buffer]


class Kernel(Protocol):
    """A compiled cell: ``arrays`` are those that it works on; sums have a row for each of its ``workers``."""

    plan: Plan
    dtype: np.dtype
    arrays: Host
    forward: Pass
    backward: Pass
    y_widths: list[int]
    dx_widths: list[int]

    def workers(self, batch: int) -> int: ...


class Gradients:
    """Of the parameters that want one; several runs may add to them."""

    def __init__(self, kernel: Kernel, params: list[Array], wanted: list[bool], layout: Layout):
        self.params, self.more, self.arrays = params, False, kernel.arrays
        self.found: Some = [None] * len(params)
        self.sums: dict[int, Array] = {}
        formed = {w.parameter for w in kernel.plan.gradients}
        given = enumerate(kernel.plan.cell.d_params)
        self.zero = [i for i, d in given if d is not None and wanted[i] and i not in formed]
        for w in kernel.plan.gradients:
            p, i = params[w.parameter], w.parameter
            if w.a is None:
                self.sums[i] = self.arrays.zeros((kernel.workers(layout.batch), w.g.buffer.width), p.dtype)
            elif wanted[i] and self.found[i] is None:
                make = self.arrays.zeros if w.add or layout.rows == 0 else self.arrays.empty
                self.found[i] = make(p.shape, p.dtype)

    def results(self) -> Some:
        for i in self.zero:
            self.found[i] = self.arrays.zeros(self.params[i].shape, self.params[i].dtype)
        for i, rows in self.sums.items():
            total, shape = self.arrays.sum_rows(rows), self.params[i].shape
            self.found[i] = total if total.shape == shape else total.reshape(shape)
        return self.found


class Given:
    """What a pass is given, by name. ``copy`` so that the backward pass adds its own to that of the forward pass."""

    def copy(self) -> Given:
        raise NotImplementedError

    def give(self, name: str, array: Array | None) -> None:
        """None where something is not wanted."""
        raise NotImplementedError

    def give_rows(self, name: str, array: Array | None, width: int) -> None:
        """None: zeros in every row."""
        raise NotImplementedError


class Run:
    """One forward pass over rows, and what the backward pass needs of it. Arrays are contiguous."""

    def __init__(self, kernel: Kernel, rows: list[Array], states: list[Array], params: list[Array], layout: Layout):
        self.kernel, self.plan, self.dtype, self.layout, self.states = kernel, kernel.plan, kernel.dtype, layout, states
        self.arrays = kernel.arrays
        self.given = self._nothing()
        for i, x in enumerate(rows):
            self.given.give(f"x{i}", x)
        for i, p in enumerate(params):
            self.given.give(f"p{i}", p if p.ndim == 2 else p.reshape((1, p.size)))

    def _nothing(self) -> Given:
        raise NotImplementedError

    def _call(self, direction: str, given: Given, more: bool) -> Launches:
        """Run "forward" or "backward"; ``given`` has all but the memory that only the kernel uses, and learns that.
        With ``more``, gradients of weights are added to."""
        raise NotImplementedError

    def forward(self) -> Launches:
        """ys (rows, n) and final states (B, n)."""
        plan, place = self.plan, self.layout
        states = []
        for k, first in enumerate(self.states):
            state = first if plan.fixed[k] else place.in_time(first)
            self.given.give(f"before{k}", state)
            self.given.give(f"after{k}", state)
            states.append(state)
        ys = []
        for j, source in enumerate(plan.y_from):
            if source is None:
                ys.append(self.arrays.empty((place.rows, self.kernel.y_widths[j]), self.dtype))
                self.given.give(f"y{j}", ys[j])
            else:
                ys.append(states[source][place.after])
        yield from self._call("forward", self.given, False)
        self.in_time = states
        final = []
        for k, s in enumerate(states):
            if plan.fixed[k]:  # memories are large, and nobody writes to them
                final.append(s if k in plan.cell.d_memories else self.arrays.copy(s))
            else:
                final.append(self.arrays.take(s, place.last))
        return ys, final

    def backward(self, gys: Some, gstates: Some, gradients: Gradients, dxs: Some) -> Launches:
        """Cotangents of the initial states from those of ys (rows, n) and final states; adds to ``gradients`` and fills
        ``dxs`` (rows, I), where None is not wanted."""
        plan, place, given = self.plan, self.layout, self.given.copy()
        for j, g in enumerate(gys):
            given.give_rows(f"gy{j}", g, self.kernel.y_widths[j])
        carries = []
        for k, (first, g) in enumerate(zip(self.states, gstates)):
            if k in plan.cell.d_memories:  # the kernel adds to g
                given.give(f"d_memory{k}", g)
                carries.append(g)
                continue
            carry = self.arrays.zeros((2 * place.batch, first.shape[1]), self.dtype)
            if g is not None:  # read by the last step of each member
                self.arrays.put(carry, place.entry, g)
            given.give(f"in{k}", carry)
            given.give(f"out{k}", carry)
            carries.append(carry[: place.batch])
        for i, found in enumerate(gradients.found):
            given.give(f"d_p{i}", found)
        for i, rows in gradients.sums.items():
            given.give(f"sum{i}", rows)
        for i, dx in enumerate(dxs):
            given.give(f"dx{i}", dx)
        wanted = self.kernel.backward.given
        for k, state in enumerate(self.in_time):
            if f"rows_before{k}" in wanted:
                given.give(f"rows_before{k}", self.arrays.take(state, place.members if plan.fixed[k] else place.before))
            if f"rows_after{k}" in wanted:
                given.give(f"rows_after{k}", state[place.after])
        more = gradients.more
        gradients.more |= place.rows > 0  # a segment behind all lengths writes nothing
        yield from self._call("backward", given, more)
        return carries


def _flat(state: Array) -> Array:
    """(B, n), also of a memory (B, S, A)."""
    return state.reshape((len(state), math.prod(state.shape[1:])))


class Sequence:
    """``cell`` over xs (T, B, n) from states (B, n); with ``every``, segments of so many steps are run again in the
    backward pass, so that memory is that of one segment, of the states between them, and of inputs and outputs."""

    run: ClassVar[type[Run]]

    def __init__(self, kernel: Kernel, xs: list[Array], states: list[Array], params: list[Array],
                 lengths: np.ndarray | None, reverse: bool, every: int | None):  # fmt: skip
        self.kernel, self.plan, self.arrays = kernel, kernel.plan, kernel.arrays
        contiguous = self.arrays.contiguous
        self.layout = layout(*xs[0].shape[:2], lengths, reverse, self.arrays)
        self.rows = [self.layout.pack(contiguous(x)) for x in xs]
        self.given = states
        self.states = [self.layout.sort(_flat(contiguous(s))) for s in states]
        self.params = [contiguous(p) for p in params]
        steps = self.layout.steps
        self.every = every if every and every < steps else None
        self.starts = range(0, steps, self.every or steps)
        self.runs: list[Run] = []

    def _run(self, start: int, states: list[Array]) -> tuple[Run, slice]:
        """The segment from ``start`` on, and its rows."""
        if self.every is None:
            return self.run(self.kernel, self.rows, states, self.params, self.layout), slice(None)
        part, rows = self.layout.segment(start, min(start + self.every, self.layout.steps))
        return self.run(self.kernel, [x[rows] for x in self.rows], states, self.params, part), rows

    def forward(self) -> Launches:
        """ys (T, B, n) and final states (B, n)."""
        states, self.between, memories = self.states, [], self.plan.cell.d_memories
        if self.every is None:
            run, _ = self._run(0, states)
            ys, states = yield from run.forward()
            self.runs = [run]
        else:
            ys = [self.arrays.empty((self.layout.rows, width), self.kernel.dtype) for width in self.kernel.y_widths]
            for start in self.starts:
                self.between.append(states)
                run, rows = self._run(start, states)
                parts, states = yield from run.forward()
                states = [s if k in memories else self.arrays.copy(s) for k, s in enumerate(states)]
                # a view would keep the whole segment alive
                for y, part in zip(ys, parts):
                    self.arrays.put(y, rows, part)
        final = [self.given[k] if k in memories else self.layout.unsort(s) for k, s in enumerate(states)]
        return [self.layout.unpack(y) for y in ys], final

    def backward(self, gys: Some, gstates: Some, wanted: list[bool]) -> Launches:
        """Cotangents of xs, initial states and parameters, None where not ``wanted``."""
        place, dtype, contiguous = self.layout, self.kernel.dtype, self.arrays.contiguous
        g_rows = [None if g is None else place.pack(contiguous(g)) for g in gys]
        n = len(self.rows)
        carried: Some = [None if g is None else place.sort(_flat(contiguous(g))) for g in gstates]
        for k in self.plan.cell.d_memories:
            carried[k] = self._sum(carried[k], self.states[k]) if wanted[n + k] else None
        gradients = Gradients(self.kernel, self.params, wanted[n + len(self.states) :], place)
        d_xs: Some = []
        for i, width in enumerate(self.kernel.dx_widths):
            stored = any(b.name == f"dx{i}" for b in self.kernel.backward.buffers)  # by the loop, wanted or not
            d_xs.append(place.room(width, dtype) if wanted[i] or stored else None)
        dxs = [None if d is None else d.reshape((place.rows, d.shape[-1])) for d in d_xs]
        if self.every is None:
            carried = yield from self.runs[0].backward(g_rows, carried, gradients, dxs)
        else:
            for start, states in zip(self.starts[::-1], self.between[::-1]):
                run, rows = self._run(start, states)
                yield from run.forward()
                part = [None if g is None else g[rows] for g in g_rows]
                d_rows = [None if d is None else d[rows] for d in dxs]
                carried = yield from run.backward(part, carried, gradients, d_rows)
        d_xs = [None if d is None else place.unpack(d) for d in d_xs]
        states = [place.unsort(c).reshape(s.shape) if want else None  # type: ignore[union-attr]
                  for c, want, s in zip(carried, wanted[n:], self.given)]  # fmt: skip
        return d_xs + states + gradients.results()

    def _sum(self, g: Array | None, memory: Array) -> Array:
        """Where the cotangent of a memory is summed up, from that of its final value on."""
        return self.arrays.zeros(memory.shape, memory.dtype) if g is None else self.arrays.copy(g)
