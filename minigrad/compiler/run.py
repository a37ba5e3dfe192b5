"""Floor 4: run a compiled cell over a sequence: its memory, and the tables of numbers that its two passes read.

``Run`` works on rows (``layout.py``). ``Sequence`` puts a user's (T, B, n) into rows, runs it whole or in segments of
which only the states between are kept, and takes the results out again. Their passes are generators that yield each
launch, so that ``together`` can run those of several sequences, such as both directions, in one parallel region.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from ctypes import addressof, c_char
from typing import Any, NamedTuple

import numpy as np

from minigrad.compiler.emit import CellKernel, Loop
from minigrad.compiler.layout import Layout, layout
from minigrad.compiler.plan import Buffer
from minigrad.kernels.cpu import gemm, parallel

Array = np.ndarray
Some = list[Array | None]
_ROWS = 64  # of the input's products, made ahead of the steps that need them, so that they are still in the cache
_FEW = 6  # members of a worker below which its products with the input wait for those of others, all at once
_SERIAL = 300_000  # multiply-adds of a pass below which one thread is faster


def _address(array: Array) -> int:
    """``array.ctypes.data`` in a third of the time; the array is not empty."""
    return addressof(c_char.from_buffer(array))


class Launch(NamedTuple):
    """A kernel to be called: ``at`` has all that its table wants but the shares of the workers."""

    loop: Loop
    address: int
    at: dict[str, int]
    layout: Layout

    def table(self, workers: int) -> Array:
        self.at["shares"] = self.layout.shares(workers)
        members = self.layout.batch // workers
        self.at["chunk"] = max(1, _ROWS // max(members, 1)) if members >= _FEW or workers == 1 else 0
        table = self.loop.fixed.copy()
        table[: len(self.loop.given)] = [self.at[name] for name in self.loop.given]
        return table


Launches = Generator[Launch, None, Any]


def together(passes: list[Launches]) -> list[Any]:
    """The results of passes; what they launch at the same time runs in one region."""
    results = [None] * len(passes)
    running = dict(enumerate(passes))
    while running:
        launches = []
        for i, one in list(running.items()):
            try:
                launches.append(next(one))
            except StopIteration as end:
                results[i] = end.value
                del running[i]
        _launch(launches)
    return results


def _launch(launches: list[Launch]) -> None:
    """A thread for each launch where there are no more threads or too few members to share, else all for each."""
    threads = parallel.workers()
    if sum([a.layout.rows * a.loop.work for a in launches]) <= _SERIAL:
        threads = 1
    if len(launches) > 1 and threads > 1 and (threads <= len(launches) or launches[0].layout.batch < threads):
        tables = [launch.table(1) for launch in launches]
        parallel.run_each([(a.address, _address(t), a.loop.phases) for a, t in zip(launches, tables)])
        return
    for launch in launches:
        table = launch.table(threads)
        parallel.run(launch.address, _address(table), launch.loop.phases, threads)


class Arena:
    """Rows of memory under names, in one block; each begins on a cache line."""

    def __init__(self, dtype: np.dtype):
        self.dtype, self.size, self.offsets = dtype, 0, {}  # type: ignore[var-annotated]

    def add(self, name: str, numbers: int) -> None:
        self.offsets[name] = self.size
        self.size += -(-numbers * self.dtype.itemsize // 64) * 64

    def place(self, at: dict[str, int]) -> Array:
        """The block; ``at`` learns the addresses."""
        block = np.empty(self.size + 64, np.uint8)
        first = (_address(block) + 63) // 64 * 64
        for name, offset in self.offsets.items():
            at[name] = first + offset
        return block


class Gradients:
    """Of the parameters that want one; several runs may add to them."""

    def __init__(self, kernel: CellKernel, params: list[Array], wanted: list[bool], rows: int):
        self.params, self.more = params, False
        self.found: Some = [None] * len(params)
        self.sums: dict[int, Array] = {}
        formed = {w.parameter for w in kernel.plan.gradients}
        given = enumerate(kernel.plan.cell.d_params)
        self.zero = [i for i, d in given if d is not None and wanted[i] and i not in formed]
        for w in kernel.plan.gradients:
            p, i = params[w.parameter], w.parameter
            if w.a is None:
                self.sums[i] = np.zeros((parallel.workers(), w.g.buffer.width), p.dtype)
            elif wanted[i] and self.found[i] is None:
                self.found[i] = np.zeros(p.shape, p.dtype) if w.add or rows == 0 else np.empty(p.shape, p.dtype)

    def results(self) -> Some:
        for i in self.zero:
            self.found[i] = np.zeros(self.params[i].shape, self.params[i].dtype)
        for i, rows in self.sums.items():
            total, shape = rows.sum(0), self.params[i].shape
            self.found[i] = total if total.shape == shape else total.reshape(shape)
        return self.found


class Run:
    """One forward pass over rows, and what the backward pass needs of it. Arrays are contiguous."""

    def __init__(self, kernel: CellKernel, rows: list[Array], states: list[Array], params: list[Array], layout: Layout):
        self.kernel, self.plan, self.dtype, self.layout = kernel, kernel.plan, kernel.dtype, layout
        self.address_of = gemm.kernels(kernel.dtype).address_of
        self.states = states
        self.at: dict[str, int] = {}
        self.keep: list[Array] = []  # what ``at`` points to
        for i, x in enumerate(rows):
            self._give(f"x{i}", x)
        for i, p in enumerate(params):
            self._give(f"p{i}", p if p.ndim == 2 else p.reshape(1, -1))

    def _give(self, name: str, array: Array) -> None:
        self.at[name] = self.address_of(array)
        self.keep.append(array)

    def forward(self) -> Launches:
        """ys (rows, n) and final states (B, n)."""
        plan, place = self.plan, self.layout
        states = []
        for k, first in enumerate(self.states):
            state = first
            if not plan.fixed[k]:
                state = np.empty((place.batch + place.rows, first.shape[1]), self.dtype)
                state[place.initial] = first
            self._give(f"before{k}", state)
            self.at[f"after{k}"] = self.at[f"before{k}"]
            states.append(state)
        ys = []
        for j, source in enumerate(plan.y_from):
            if source is None:
                ys.append(np.empty((place.rows, self.kernel.y_widths[j]), self.dtype))
                self._give(f"y{j}", ys[j])
            else:
                ys.append(states[source][place.after])
        yield from self._call(self.kernel.forward, self.kernel.module.forward.address, self.at, self.keep, 0)
        self.in_time = states
        final = []
        for k, s in enumerate(states):  # memories are large, and nobody writes to them
            found = s if k in plan.cell.d_memories else s.copy() if plan.fixed[k] else s[place.last]
            final.append(found)
        return ys, final

    def backward(self, gys: Some, gstates: Some, gradients: Gradients, dxs: Some) -> Launches:
        """Cotangents of the initial states from those of ys (rows, n) and final states; adds to ``gradients`` and fills
        ``dxs`` (rows, I), where None is not wanted."""
        plan, place = self.plan, self.layout
        at, keep = dict(self.at), list(self.keep)

        def give(name: str, array: Array) -> None:
            at[name] = self.address_of(array)
            keep.append(array)

        for j, g in enumerate(gys):
            width = self.kernel.y_widths[j]
            give(f"gy{j}", np.zeros((1, width), self.dtype) if g is None else g)
            at[f"w_gy{j}"] = 0 if g is None else width
        carries = []
        for k, (first, g) in enumerate(zip(self.states, gstates)):
            if k in plan.cell.d_memories:  # the kernel adds to g
                at[f"d_memory{k}"] = 0 if g is None else self.address_of(g)
                carries.append(g)
                continue
            carry = np.zeros((2 * place.batch, first.shape[1]), self.dtype)
            if g is not None:  # read by the last step of each member
                carry[place.ends % 2 * place.batch + np.arange(place.batch)] = g
            give(f"in{k}", carry)
            at[f"out{k}"] = at[f"in{k}"]
            carries.append(carry[: place.batch])
        for i, found in enumerate(gradients.found):
            at[f"d_p{i}"] = 0 if found is None else self.address_of(found)
        for i, rows in gradients.sums.items():
            give(f"sum{i}", rows)
        for i, dx in enumerate(dxs):
            at[f"dx{i}"] = 0 if dx is None else self.address_of(dx)
        for k, state in enumerate(self.in_time):
            names = [f"rows_before{k}", f"rows_after{k}"]
            for name, rows in zip(names, (place.members if plan.fixed[k] else place.before, place.after)):
                if name in self.kernel.backward.given:
                    give(name, state[rows])
        more = gradients.more
        gradients.more |= place.rows > 0  # a segment behind all lengths writes nothing
        yield from self._call(self.kernel.backward, self.kernel.module.backward.address, at, keep, more)
        return carries

    def _call(self, loop: Loop, address: int, at: dict[str, int], keep: list[Array], more: int) -> Launches:
        """``at`` has all addresses but those of memory that only the kernel uses."""
        place = self.layout
        if place.rows == 0:
            return
        lasting, passing = Arena(self.dtype), Arena(self.dtype)
        for b in loop.buffers:
            if b.name not in at:
                (lasting if b.rows == "time" else passing).add(b.name, self._count(b) * b.width)
        for name, size in loop.packs:
            passing.add(name, size)
        if loop.scratch:
            passing.add("scratch", loop.scratch * place.rows)
        keep.append(lasting.place(at))
        block = passing.place(at)
        at["steps"], at["batch"], at["rows"], at["layout"] = place.steps, place.batch, place.rows, place.address
        at["more"] = more
        yield Launch(loop, address, at, place)
        del block  # not before the kernel has run

    def _count(self, b: Buffer) -> int:
        return {"time": self.layout.rows, "worker": parallel.workers()}.get(b.rows, self.layout.batch)


def _flat(state: Array) -> Array:
    """(B, n), also of a memory (B, S, A)."""
    return state.reshape(len(state), math.prod(state.shape[1:]))


class Sequence:
    """``cell`` over xs (T, B, n) from states (B, n); with ``every``, segments of so many steps are run again in the
    backward pass, so that memory is that of one segment, of the states between them, and of inputs and outputs."""

    def __init__(self, kernel: CellKernel, xs: list[Array], states: list[Array], params: list[Array],
                 lengths: Array | None, reverse: bool, every: int | None):  # fmt: skip
        self.kernel, self.plan = kernel, kernel.plan
        self.layout = layout(*xs[0].shape[:2], lengths, reverse)
        self.rows = [self.layout.pack(np.ascontiguousarray(x)) for x in xs]
        self.given = states
        self.states = [np.ascontiguousarray(self.layout.sort(_flat(s))) for s in states]
        self.params = [np.ascontiguousarray(p) for p in params]
        steps = self.layout.steps
        self.every = every if every and every < steps else None
        self.starts = range(0, steps, self.every or steps)
        self.runs: list[Run] = []

    def _run(self, start: int, states: list[Array]) -> tuple[Run, slice]:
        """The segment from ``start`` on, and its rows."""
        if self.every is None:
            return Run(self.kernel, self.rows, states, self.params, self.layout), slice(None)
        part, rows = self.layout.segment(start, min(start + self.every, self.layout.steps))
        return Run(self.kernel, [x[rows] for x in self.rows], states, self.params, part), rows

    def forward(self) -> Launches:
        """ys (T, B, n) and final states (B, n)."""
        states, self.between, memories = self.states, [], self.plan.cell.d_memories
        if self.every is None:
            run, _ = self._run(0, states)
            ys, states = yield from run.forward()
            self.runs = [run]
        else:
            ys = [np.empty((self.layout.rows, width), self.kernel.dtype) for width in self.kernel.y_widths]
            for start in self.starts:
                self.between.append(states)
                run, rows = self._run(start, states)
                parts, states = yield from run.forward()
                states = [s if k in memories else s.copy() for k, s in enumerate(states)]
                # a view would keep the whole segment alive
                for y, part in zip(ys, parts):
                    y[rows] = part
        final = [self.given[k] if k in memories else self.layout.unsort(s) for k, s in enumerate(states)]
        return [self.layout.unpack(y) for y in ys], final

    def backward(self, gys: Some, gstates: Some, wanted: list[bool]) -> Launches:
        """Cotangents of xs, initial states and parameters, None where not ``wanted``."""
        place, dtype = self.layout, self.kernel.dtype
        g_rows = [None if g is None else place.pack(np.ascontiguousarray(g)) for g in gys]
        n = len(self.rows)
        carried: Some = [None if g is None else place.sort(_flat(g)) for g in gstates]
        for k in self.plan.cell.d_memories:
            carried[k] = self._sum(carried[k], self.states[k]) if wanted[n + k] else None
        gradients = Gradients(self.kernel, self.params, wanted[n + len(self.states) :], place.rows)
        d_xs: Some = []
        for i, width in enumerate(self.kernel.dx_widths):
            stored = any(b.name == f"dx{i}" for b in self.kernel.backward.buffers)  # by the loop, wanted or not
            d_xs.append(place.room(width, dtype) if wanted[i] or stored else None)
        dxs = [None if d is None else d.reshape(place.rows, d.shape[-1]) for d in d_xs]
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
        states = [place.unsort(c).reshape(s.shape) if want else None  # type: ignore[arg-type]
                  for c, want, s in zip(carried, wanted[n:], self.given)]  # fmt: skip
        return d_xs + states + gradients.results()

    @staticmethod
    def _sum(g: Array | None, memory: Array) -> Array:
        """Where the cotangent of a memory is summed up, from that of its final value on."""
        return np.zeros(memory.shape, memory.dtype) if g is None else np.array(g, order="C")
