"""Floor 2, CUDA: one expression over arrays of any strides: what elementwise operations, copies and casts run on.

Sizes are folded to as few loops as possible (``kernels/loops.py``). A thread finds its element in each array from the
number k of its item: from the innermost loop out, the next k is k // n, and the index is what remains. Division is slow
on a GPU, so it is a multiplication by a number found before (Granlund and Montgomery 1994). Where the innermost loop
allows it, an item is four neighbours, read and written at once.

All of these kernels are limited by the bytes that they move: each thread has two (of four elements) or four items under
way, so that there are enough loads in flight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad.kernels.cuda.device import Array, Device
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda, load4, store4
from minigrad.kernels.loops import Shape, fold, spread

LIMIT = 2**31  # items that ``divider`` is right for
_WORDS = (cuda, load4, store4)


def divider(n: int) -> tuple[int, int]:
    """(m, s) with k // n = (k m) >> s for 0 <= k < 2^31, without overflow in 64 bits."""
    s = (n - 1).bit_length()
    return (1 << 31 + s) // n + 1, 31 + s


def lowest(x: Array) -> Array:
    """The elements of x from the lowest in memory on: what a kernel can be given a pointer to."""
    back = tuple([a for a, s in enumerate(x.strides) if s < 0])
    return x.flip(back) if back else x


def is_aligned(x: Array) -> bool:
    """Whether the lowest element of x is at a multiple of four elements, so that four can be read at once."""
    return lowest(x).offset % (4 * x.dtype.itemsize) == 0


class Plan(NamedTuple):
    """One launch: ``kernel`` by so many ``threads``, at least; ``numbers`` come before the arrays. ``back``: arrays are
    walked backwards, so their lowest elements are what is pointed at."""

    kernel: Kernel
    threads: int
    numbers: tuple[int, ...]
    back: bool


class Loops:
    """``call``, an expression in {x0}, {x1}, ..., for each element of arrays that broadcast.

    takes: types of the operands' pointers, and of the result's ("T*", "u1*")
    text:  of functions that ``call`` names; ``parts``: functions and words that it names
    """

    def __init__(self, name: str, call: str, takes: Sequence[str], *, text: str = "", parts: Iterable[Any] = ()):
        self.name, self.call, self.takes, self.text = name, call, tuple(takes), text
        self.parts = (*_WORDS, *parts)
        self._kernels: dict[tuple[int, str], Kernel] = {}
        self._plans: dict[tuple, Plan | None] = {}

    def kernel(self, rank: int, pattern: str = "") -> Kernel:
        """For so many loops. With a ``pattern``, an item is four neighbours; of each operand they are read at once
        ("v"), or it stands still ("s")."""
        found = self._kernels.get((rank, pattern))
        if found is None:
            name = f"{self.name}_{pattern or 'any'}{rank}"
            takes = ["i8"] * (2 + 3 * (rank - 1) + (1 + rank) * len(self.takes)) + [*self.takes]
            promises = ["LDG.E.128"] * ("v" in [p for p, t in zip(pattern, self.takes) if t == "T*"])
            promises += ["STG.E.128"] * (self.takes[-1] == "T*")
            found = self._kernels[rank, pattern] = Kernel(
                None, " ".join(takes), name=name, text=self.text + source(self.call, rank, pattern, len(self.takes)),
                parts=self.parts, promises=promises if pattern else ())  # fmt: skip
        return found

    def plan(self, shape: Shape, strides: Sequence[Shape], aligned: Sequence[bool]) -> Plan | None:
        """For arrays with these ``strides`` over ``shape``, the result's last. ``aligned``: the memory that they point
        at begins at a multiple of four elements. None where there are too many elements for one launch."""
        order = sorted(range(len(shape)), key=lambda a: -abs(strides[-1][a]))  # as the result lies in memory
        sizes, steps = fold(tuple([shape[a] for a in order]), [tuple([s[a] for a in order]) for s in strides])
        n, pattern = math.prod(sizes), ""
        if n >= LIMIT and len(sizes) > 1:
            return None
        if steps[-1][-1] == 1 and all(s[-1] == 0 or (s[-1] == 1 and fits) for s, fits in zip(steps, aligned)):
            even = sizes[-1] % 4 == 0 and all(t % 4 == 0 for s in steps if s[-1] for t in s[:-1])
            if even or len(sizes) == 1:
                pattern = "".join("v" if s[-1] else "s" for s in steps[:-1])
                sizes, steps = [*sizes[:-1], sizes[-1] // 4], [[*s[:-1], 4 * s[-1]] for s in steps]
        rank = 1 << (len(sizes) - 1).bit_length()  # 1, 2, 4, 8, ...: fewer kernels to compile
        missing = rank - len(sizes)
        sizes, steps = [1] * missing + sizes, [[0] * missing + s for s in steps]
        numbers = [math.prod(sizes), n]
        for size in sizes[1:]:
            numbers += [size, *divider(size)]
        firsts = [sum((1 - n) * t for n, t in zip(shape, s) if t < 0) for s in strides]
        threads = max(1, -(-numbers[0] // items_of_thread(rank, pattern)))
        return Plan(
            self.kernel(rank, pattern), threads, (*numbers, *firsts, *[t for s in steps for t in s]), any(firsts)
        )

    def run(self, device: Device, dtype: np.dtype, plan: Plan | None, operands: Sequence[Array], out: Array) -> None:
        if plan is None:
            return self._halves(device, dtype, operands, out)
        arrays = [lowest(x) for x in (*operands, out)] if plan.back else (*operands, out)
        device.launch(plan.kernel, dtype, -(-plan.threads // device.threads), *plan.numbers, *arrays)

    def __call__(self, device: Device, dtype: np.dtype, operands: Sequence[Array], out: Array) -> None:
        """Write into ``out``, whose shape the operands broadcast to."""
        if not out.size:
            return
        arrays = [*operands, out]
        strides = tuple([spread(x.shape, x.strides, out.ndim) for x in arrays])
        aligned = tuple([is_aligned(x) for x in arrays])
        key = out.shape, strides, aligned
        if key not in self._plans:
            if len(self._plans) > 4096:  # shapes that never repeat must not pile up
                self._plans.clear()
            self._plans[key] = self.plan(*key)
        self.run(device, dtype, self._plans[key], operands, out)

    def _halves(self, device: Device, dtype: np.dtype, operands: Sequence[Array], out: Array) -> None:
        """More elements than are counted: the longest axis in two parts."""
        axis = max(range(out.ndim), key=lambda a: out.shape[a])
        for part in (slice(out.shape[axis] // 2), slice(out.shape[axis] // 2, None)):
            index = (slice(None),) * axis + (part,)
            full = [x.broadcast_to(out.shape) for x in operands]
            self(device, dtype, [x.cut(index) for x in full], out.cut(index))


def items_of_thread(rank: int, pattern: str) -> int:
    """Loads in flight: two of 16 bytes or more, or four of one element, of which two have to do with many loops."""
    return 2 if pattern or rank > 2 else 4


def source(call: str, rank: int, pattern: str, arrays: int) -> str:
    """Text of the kernel: ``items`` in all, ``n`` elements, size, factor and shift of every loop but the first, the
    place of the first element of each array and its strides, then the arrays.

    A thread takes items k, k + stride. A loop over more of them would be unrolled by the compiler, at the price of so
    many registers that fewer threads run."""
    loops, elements, several = range(rank), range(4 if pattern else 1), range(items_of_thread(rank, pattern))
    names = [*[f"x{o}" for o in range(arrays - 1)], "out"]
    kinds = dict(zip(names, pattern or "-" * (arrays - 1)))
    arguments = ["items", "n", *[f"n{a}, m{a}, s{a}" for a in loops[1:]]]
    arguments += [f"{x}_at" for x in names] + [f"{x}_{a}" for x in names for a in loops] + names
    lines = ["@kernel", f"def run({', '.join(arguments)}):", "    stride = cuda.gridsize(1)"]
    for u in several:
        lines += [f"    k{u} = cuda.grid(1) + {u} * stride", f"    if k{u} < items:", f"        i0 = k{u}"]
        for a in reversed(loops[1:]):
            lines += [f"        rest = (i0 * m{a}) >> s{a}", f"        i{a} = i0 - rest * n{a}", "        i0 = rest"]
        for x in names:
            lines.append(f"        p{u}_{x} = {' + '.join([f'{x}_at', *[f'i{a} * {x}_{a}' for a in loops]])}")
        for x, kind in kinds.items():
            lines.append(f"        v{u}_{x} = " + (f"load4({x}, p{u}_{x})" if kind == "v" else f"{x}[p{u}_{x}]"))
    for u in several:
        values = [call.format(**{x: f"v{u}_{x}" + f"[{e}]" * (p == "v") for x, p in kinds.items()}) for e in elements]
        store = f"store4(out, p{u}_out, ({', '.join(values)}))" if pattern else f"out[p{u}_out] = {values[0]}"
        lines += [f"    if k{u} < items:", f"        {store}"]
    if pattern and rank == 1:
        at = {x: f"{x}[{x}_at + k]" if p == "v" else f"{x}[{x}_at]" for x, p in kinds.items()}
        lines += ["    k = 4 * items + cuda.grid(1)", "    if k < n:", f"        out[out_at + k] = {call.format(**at)}"]
    return "\n".join(lines) + "\n"
