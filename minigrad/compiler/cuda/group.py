"""Floor 4: all steps of a pass in one kernel: groups of blocks share out the batch, the blocks of a group the units.

Block ``part`` of a group keeps its columns of every weight in shared memory, computes its columns of every product, for
M members of the batch at a time, and the row functions of its columns. Where it needs what other blocks of the group
wrote, all wait for each other (``ownership.py``). One block a group waits for nobody.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from minigrad.compiler.cuda.ownership import BLOCK, GROUP, Phase, barriers, phases
from minigrad.compiler.cuda.products import column_of, keep_columns, member_product, step_product
from minigrad.compiler.cuda.rows import Table, Warp
from minigrad.compiler.graph import Matrix
from minigrad.compiler.layout import Layout
from minigrad.compiler.plan import Pass, Place, Plan, Product
from minigrad.kernels.cuda.device import Device
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda, group_barrier

AHEAD = 32  # bytes of an operand that a thread asks for before it needs them
_LARGE = 2  # times the shared memory of all blocks: more weights than that are not read anew in every step
# Multiply-adds of a block in a step, by estimate: so many are worth another block to wait for, and more than so many
# take longer than products launched for themselves, which have larger tiles.
_WORTH, _MOST = 1 << 16, 1 << 20


class Shape(NamedTuple):
    """How a kernel runs: ``groups`` of ``parts`` blocks; ``members`` (M) of the batch at a time in the registers of a
    thread, and ``chunk`` rows of a weight; weights are ``kept`` in shared memory, or read again in every step."""

    parts: int
    groups: int
    members: int
    chunk: int
    threads: int
    kept: bool

    def slice(self, weights: list[tuple[int, int, int]]) -> int:
        """Numbers of the weights' columns that a block owns; each weight is (k, n, tile)."""
        return sum([self.columns(k, n, tile) for k, n, tile in weights])

    def columns(self, k: int, n: int, tile: int) -> int:
        """Numbers that a block keeps of one weight."""
        return -(-k // 4) * 4 * (n // tile) * -(-tile // self.parts)

    def shared(self, weights: list[tuple[int, int, int]]) -> int:
        """Numbers in the shared memory of a block: weights, operands, and what its threads add up."""
        return (self.slice(weights) if self.kept else 0) + self.members * (self.chunk + self.threads)


def choose(weights: list[tuple[int, int, int]], batch: int, itemsize: int, multiprocessors: int, limit: int,
           threads: int) -> Shape | None:  # fmt: skip
    """Groups of as few blocks as hold the weights in their shared memory, of ``limit`` bytes each, and of more where
    the batch leaves multiprocessors idle; None where a launch for each product is better."""

    def shape(parts: int, kept: bool) -> Shape:
        groups = max(1, min(batch, multiprocessors // parts))
        few = -(-batch // groups) <= 4 or itemsize > 4 or len(weights) > 2  # or there are not registers for more
        members = 4 if few else 8
        return Shape(parts, groups, members, AHEAD // itemsize * threads // members, threads, kept)

    numbers = sum([k * n for k, n, _ in weights])
    fitting = (found for parts in range(1, multiprocessors + 1)
               if (found := shape(parts, True)).shared(weights) * itemsize <= limit)  # fmt: skip
    found = next(fitting, shape(multiprocessors, False))
    work = -(-batch // found.groups) * numbers
    parts = max(found.parts, min(multiprocessors // found.groups, work // _WORTH))
    large = not found.kept and numbers * itemsize > _LARGE * multiprocessors * limit
    return None if large or work > _MOST * parts else found._replace(parts=parts)


_TEXT = """M, AHEAD = {members}, {ahead}


@kernel
def run({arguments}):
    tid, threads = cuda.threadIdx.x, cuda.blockDim.x
    lane, warp, warps = tid % 32, tid // 32, threads // 32
    part, group = cuda.blockIdx.x % parts, cuda.blockIdx.x // parts
    first, last = batch * group // groups, batch * (group + 1) // groups
    shared = cuda.shared.array(0, T)
{weights}
    partial = staged + chunk * M
{prologue}
    target = 0
    for i in range(steps):
        s = {step}
        now, before, after, members = layout[4 * s], layout[4 * s + 1], layout[4 * s + 2], layout[4 * s + 3]
        stop = last if last < members else members
        if stop > first:
{work}
"""
_KEPT = """    weights = shared
    kept, staged = 0, owned"""
_PACKED = """    weights = packed
    kept, staged = cuda.blockIdx.x * owned, 0"""

_RANGE = """low_{i}, high_{i} = {size} * part // parts, {size} * (part + 1) // parts
wide_{i} = max(1, min(high_{i} - low_{i}, threads))
down_{i} = threads // wide_{i}
row_{i} = first + tid // wide_{i} if tid < down_{i} * wide_{i} else last
begin_{i} = low_{i} + tid % wide_{i}"""

_LOOP = """b = row_{i}
while b < stop:
    j = begin_{i}
    while j < high_{i}:
{lines}
        j += wide_{i}
    b += down_{i}"""

_PRODUCT_BEFORE = """columns_{i} = n_{i} // {tile} * (high_{t} - low_{t})
width_{i} = max(1, min(columns_{i}, threads))
splits_{i} = threads // width_{i}
c_{i}, q_{i} = tid % width_{i}, tid // width_{i}
to_{i} = column_of(c_{i}, {tile}, low_{t}, high_{t})"""

_KEEP = "keep_columns({p}, {at}, {p}_row, {turned}, k_{i}, n_{i}, {tile}, low_{t}, high_{t}, weights, {kept})"

_PRODUCT = """b = first
while b < stop:
    step_product({x}, {x_at}, {x_row}, min(stop - b, M), k_{i}, weights, {kept}, columns_{i}, width_{i}, splits_{i},
                 c_{i}, q_{i}, to_{i}, {tile}, low_{t}, high_{t}, shared, staged, partial, chunk,
                 {z}, {z_at}, {z_row}, {add})
    b += M"""

_WARP = """b = first + part + parts * warp
while b < stop:
{lines}
    b += parts * warps"""

_MEMBERS = """b = row_{t}
while b < stop:
    n = begin_{t}
    while n < high_{t}:
        j = n
        while j < n_{i}:
            member_product({x}, {x_at}, k_{i}, {memory}, {memory_at}, {strides}, j, {z}, {z_at}, {add})
            j += {tile}
        n += wide_{t}
    b += down_{t}"""


def _indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.split("\n"))


class GroupLoop:
    """The loop of one direction."""

    def __init__(self, plan: Plan, work: Pass, name: str, dtype: np.dtype):
        self.name, self.plan, self.dtype, self.backward = name, plan, dtype, work is plan.backward
        self.table = Table()
        self.phases = phases(name, plan, work, self.table)
        self.before = barriers(self.phases)
        self.weights: list[tuple[int, int, int]] = []  # (k, n, tile) of each that a block keeps
        self._kept: dict[tuple[Matrix, int], int] = {}
        self._ranges: dict[str, int] = {}  # numbers of the widths that are shared out
        self._functions: dict[str, Any] = {"keep_columns": keep_columns, "step_product": step_product,
                                           "member_product": member_product, "column_of": column_of}  # fmt: skip
        self._parameters: dict[str, None] = {}
        self._prologue: list[str] = []
        self._work = [self._event(i, phase) for i, phase in enumerate(self.phases)]

    # ------------------------------------------------------------------ text

    def _range(self, size: str) -> int:
        """The columns of a width that a part owns, and where a thread begins in them."""
        if size not in self._ranges:
            i = self._ranges[size] = len(self._ranges)
            self._prologue.append(_RANGE.format(i=i, size=size))
        return self._ranges[size]

    def _event(self, i: int, phase: Phase) -> str:
        if isinstance(phase.work, Product):
            return self._product(i, phase.work, phase.tile)
        self._functions |= phase.work.functions
        if isinstance(phase.work, Warp):
            return _WARP.format(lines=_indented("\n".join(phase.work.lines), 4))
        loops = [_LOOP.format(i=self._range(loop.size), lines=_indented("\n".join(loop.lines), 8))
                 for loop in phase.work.loops]  # fmt: skip
        return "\n".join(loops)

    def _product(self, i: int, p: Product, tile: int) -> str:
        m, table = p.matrix, self.table
        table.named(f"k_{i}", m.k)
        table.named(f"n_{i}", m.n)
        size = table.loop(tile)
        names = {"i": i, "t": self._range(size), "tile": size, "add": int(p.add),
                 "x": p.operand.buffer.name, "x_at": table.element(p.operand, "b"),
                 "x_row": table.width(p.operand.buffer), "z": p.to.buffer.name, "z_at": table.element(p.to, "b"),
                 "z_row": table.width(p.to.buffer)}  # fmt: skip
        if m.memory:
            memory = self.plan.memory(m.index)
            strides = f"1, k_{i}" if m.turned else f"n_{i}, 1"
            names |= {"memory": memory.name, "memory_at": table.element(Place(memory), "b"), "strides": strides}
            return _MEMBERS.format(**names)
        number = self._kept.setdefault((m, tile), len(self._kept))
        names["kept"] = f"kept + {table.named(f'kept_{number}', 0)}"
        self._prologue.append(_PRODUCT_BEFORE.format(**names))
        if number == len(self.weights):
            self.weights.append((m.k, m.n, tile))
            p_, start = f"p{m.index}", table.size(("start", m.index, m.start), m.start) if m.start else "0"
            self._parameters[p_] = None
            row = table.named(f"{p_}_row", self.plan.cell.parameters[m.index][-1])
            at = start if m.turned or not m.start else f"{start} * {row}"
            self._prologue.append(_KEEP.format(p=p_, at=at, turned=int(m.turned), **names))
        return _PRODUCT.format(**names)

    def _pointers(self) -> list[str]:
        return list(dict.fromkeys([*self.table.buffers, *self._parameters]))

    def text(self, shape: Shape) -> str:
        lines = []
        for level, work in zip(self.before, self._work):
            if level == GROUP and shape.parts > 1:
                lines += ["target += parts", "group_barrier(counters, group, parts, target)"]
            elif level >= BLOCK:
                lines.append("cuda.syncthreads()")
            lines.append(work)
        constants = [f"c{n}" for n in range(len(self.table.constants))]
        arguments = ["layout", "counters", "packed", *self._pointers(), *_NUMBERS, *self.table.given, *self.table.sizes]
        return _TEXT.format(
            members=shape.members, ahead=AHEAD // self.dtype.itemsize, arguments=", ".join([*arguments, *constants]),
            work=_indented("\n".join(lines), 12), weights=_KEPT if shape.kept else _PACKED,
            prologue=_indented("\n".join(self._prologue), 4), step="steps - 1 - i" if self.backward else "i",
        )  # fmt: skip

    def kernel(self, shape: Shape) -> Kernel:
        numbers = len(_NUMBERS) + len(self.table.given) + len(self.table.sizes)
        takes = ["i8*", "u4*", "T*", *["T*"] * len(self._pointers()), *["i8"] * numbers,
                 *["T"] * len(self.table.constants)]  # fmt: skip
        parts = [*self._functions.values(), cuda, group_barrier]
        return _kernel(self.name, self.text(shape), " ".join(takes), tuple(parts), shape.threads)

    # ------------------------------------------------------------------ launch

    def shape(self, device: Device, batch: int) -> Shape | None:
        """How it runs on a device; None where it should not."""
        limits = device.multiprocessors, device.shared_limit, device.threads
        return choose(self.weights, batch, self.dtype.itemsize, *limits)

    def run(self, device: Device, shape: Shape, buffers: dict[str, Any], layout: Layout) -> None:
        """All steps; ``buffers`` has an array for each buffer and parameter."""
        owned, blocks = shape.slice(self.weights), shape.groups * shape.parts
        sizes, at = dict(self.table.sizes), 0
        for i, weight in enumerate(self.weights):
            sizes[f"kept_{i}"] = at
            at += shape.columns(*weight)
        numbers = [layout.steps, layout.batch, shape.groups, shape.parts, shape.chunk, owned]
        numbers += [buffers[name.removeprefix("w_")].strides[0] for name in self.table.given]
        device.launch(
            self.kernel(shape), self.dtype, blocks, layout.on_device, device.put(np.zeros(shape.groups, np.uint32)),
            device.empty((1 if shape.kept else blocks * owned,), self.dtype),
            *[buffers[name] for name in self._pointers()], *numbers, *sizes.values(),
            *[self.dtype.type(c) for c in self.table.constants],
            shared=shape.shared(self.weights) * self.dtype.itemsize, cooperative=shape.parts > 1,
        )  # fmt: skip


_NUMBERS = ("steps", "batch", "groups", "parts", "chunk", "owned")


@functools.cache
def _kernel(name: str, text: str, takes: str, parts: tuple, threads: int) -> Kernel:
    """One for each text: cells that differ only in sizes share it."""
    return Kernel(None, takes, name=name, text=text, parts=parts, threads=threads)
