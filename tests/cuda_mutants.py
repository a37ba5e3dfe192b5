"""Planted faults in CUDA kernels: each changes a line of a kernel's text, and a run on the emulated device must notice.

``CASES`` says what is run for the kernels whose file's name begins so: pairs of what is found, and how far it may be
from what is right. ``python tests/cuda_mutants.py > docs/cuda_mutants.md`` writes what notices each fault.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import group_mutants
import numpy as np

from minigrad.kernels.cuda import matmul
from minigrad.testing import simt
from minigrad.testing.simt import KernelError


class Mutant(NamedTuple):
    """``old`` becomes ``new`` in the text of the kernel whose file's name begins with ``kernel``; it occurs once there,
    or it is the first one that counts."""

    kernel: str
    name: str
    old: str
    new: str


class Case(NamedTuple):
    """``run`` launches the kernel on a device and gives (found, expected, allowed difference) again and again;
    with ``watched`` it is small enough to be run with races watched."""

    run: Callable[[Any], Iterator[tuple[np.ndarray, np.ndarray, Any]]]
    watched: bool = False


CASES: dict[str, list[Case]] = {}


@contextmanager
def planted(device, mutant):
    """The device compiles the mutant instead of the kernel."""
    compile_, known, met = type(device).compile, dict(device._compiled), []

    def changed(file, threads, max_registers):
        if file.stem.startswith(mutant.kernel):
            assert mutant.old in file.text, f"{mutant.name}: '{mutant.old}' is no longer in {file.stem}"
            text = file.text.replace(mutant.old, mutant.new, 1)
            assert text != file.text
            met.append(file.stem)
            file = file._replace(text=text, stem=f"{file.stem}_mutant")
        return compile_(device, file, threads, max_registers)

    device._compiled.clear()
    device.compile = changed
    try:
        yield
        assert met, f"{mutant.name}: no kernel '{mutant.kernel}' was launched"
    finally:
        del device.compile
        device._compiled.clear()
        device._compiled.update(known)


def caught(mutant: Mutant) -> str:
    """How a run shows that something is wrong; "" if none does. First the order of threads, then races are watched."""
    device = simt.device()
    with planted(device, mutant):
        for races in (False, True):
            device.races = races
            try:
                for case in CASES[mutant.kernel]:
                    if races <= case.watched:
                        for found, expected, allowed in case.run(device):
                            if not np.isfinite(found).all():
                                return "NaN"
                            if (np.abs(found - expected) > allowed).any():
                                return "wrong numbers"
            except KernelError as error:
                return type(error).__name__
            finally:
                device.races = False
    return ""


def page() -> str:
    """Markdown: every mutant and how it was caught."""
    rows = [f"| `{m.kernel}` | {m.name} | {caught(m) or '**survived**'} |" for m in MUTANTS]
    found = [(m, group_mutants.caught(m) or "**survived**") for m in group_mutants.MUTANTS]
    rows += [f"| a cell: `{m.cell}` | {m.what} | {how} |" for m, how in found]
    head = ["# Faults planted in CUDA kernels", "",
            "Each changes a line of a kernel's text, which runs on the emulated device. A test fails if one is not",
            "noticed (`tests/test_cuda_mutants.py`, `tests/test_cuda_group.py`). Written by",
            "`python tests/cuda_mutants.py > docs/cuda_mutants.md`.",
            "", "| kernel | fault | noticed by |", "| --- | --- | --- |"]  # fmt: skip
    return "\n".join([*head, *rows]) + "\n"


# ------------------------------------------------------------------------------------------------ products


def product(kind, size, sizes, turned=(False, False), shares=1, add=False, batch=1, lie="whole", beyond=0,
            watched=False):  # fmt: skip
    """A product with tiles of this size of small integers, whose sums are exact.

    Turned operands lie column by column. They are cut out of larger ones, which hold NaN, at no multiple of 16 bytes
    ("cut") or in rows filled up to one ("filled"). C is cut out of an array with a row more, and columns ``beyond``."""

    def lay(device, x, turn):
        x = x.swapaxes(1, 2) if turn else x
        first, (rows, columns) = int(lie == "cut"), x.shape[1:]
        length = {"whole": columns, "cut": columns + 2, "filled": -(-columns // 4) * 4}[lie]
        room = np.full((batch, rows + 2 * first, length), np.nan, np.float32)
        room[:, first : first + rows, first : first + columns] = x
        x = device.put(room).cut((slice(None), slice(first, first + rows), slice(first, first + columns)))
        return x.transpose((0, 2, 1)) if turn else x

    def run(device):
        m, k, n = sizes
        random = np.random.default_rng(0)
        a, b, c = (
            random.integers(-9, 10, (batch, *s)).astype(np.float32) for s in ((m, k), (k, n), (m + 1, n + beyond))
        )
        x, y = lay(device, a, turned[0]), lay(device, b, turned[1])
        before = matmul.config, matmul.choose
        matmul.config, matmul.choose = replace(matmul.config, matmul=kind), lambda *given: (size, shares)
        try:
            if batch > 1:
                found, expected = matmul.matmul(device, x, y), a @ b
            else:
                found, expected = device.put(c[0]), c[0].copy()
                matmul.product_into(device, found.cut((slice(m), slice(n))), x.cut((0,)), y.cut((0,)), add)
                expected[:m, :n] = (a @ b)[0] + (expected[:m, :n] if add else 0)
        finally:
            matmul.config, matmul.choose = before
        yield device.download(found), expected, 0

    return Case(run, watched)


def products(kind, size, small):
    """Edges of tiles and of groups of four, both ways that operands lie, k of several slabs, k shared out, a batch."""
    return [
        product(kind, size, (size, 40, size), (False, True)),
        product(kind, size, (size + 4, 44, size + 4), (False, False)),
        product(kind, size, (size + 4, 44, size + 4), (True, True), add=True),
        product(kind, size, (size - 3, 18, size - 1), (False, True), lie="cut", add=True, beyond=1),
        product(kind, size, (size + 1, 19, 5), (True, False), lie="cut", beyond=3),
        product(kind, size, (7, 19, 20), (False, True), lie="filled", beyond=1),
        product(kind, size, (5, 12, 6), (False, True), batch=3),
        product(kind, size, (20, 61, 24), (False, False), shares=2),
        product(kind, size, small, (False, True), watched=True),
    ]


CASES["tile_32"] = products("float32", 32, (20, 24, 20))
CASES["tf32_64"] = products("tf32", 64, (36, 64, 40))
CASES["bf16_64"] = products("bf16", 64, (36, 64, 40))
CASES["add_shares"] = [
    product("float32", 32, (9, 61, 11), shares=3),
    product("float32", 32, (5, 61, 11), shares=3, add=True),
    product("float32", 32, (3, 16, 3), shares=2, watched=True),
]


def of(kernel, *faults):
    return [Mutant(kernel, *fault) for fault in faults]


_FIRST = "    put(slab_b, to_b, WIDTH, b_along, next_b)\n    cuda.syncthreads()\n"
_NEXT = "            put(slab_b, here + to_b, WIDTH, b_along, next_b)\n            cuda.syncthreads()\n"
_STORED = "if whole and left >= %d:\n        store4"
_LOADED = "if whole and left >= %d:\n        return"
_NO_EDGE = "if rows <= 0 or depth <= 0"

# fmt: off
MUTANTS = [
    *of("tile_32",
        ("no barrier after the first slab", _FIRST, _FIRST.replace("    cuda.syncthreads()\n", "")),
        ("no barrier after the next slab", _NEXT, _NEXT.replace("            cuda.syncthreads()\n", "")),
        ("a barrier that some threads skip", "        if depth > 0:\n            put(slab_a",
         "        if depth > 0 and rows_a > 0:\n            put(slab_a"),
        ("one slab for two", "here = DEPTH * WIDTH - here", "here = here"),
        ("slabs that overlap", "here = DEPTH * WIDTH - here", "here = DEPTH * WIDTH - WIDTH - here"),
        ("edge of k not looked at", _NO_EDGE, "if rows <= 0"),
        ("edge of rows not looked at", _NO_EDGE, "if depth <= 0"),
        ("one row too few", _NO_EDGE, "if rows <= 1 or depth <= 0"),
        ("three left are loaded as four", _LOADED % 4, _LOADED % 3),
        ("third neighbour always there", "if left > 2 else ZERO\n    v3 = x", "if left > 1 else ZERO\n    v3 = x"),
        ("step of the other axis", "step = x_k if along_k else x_row", "step = x_row if along_k else x_k"),
        ("k does not go on", "            at_b += DEPTH * b_k\n", ""),
        ("rows of slabs too short", "slab[at + width] = v1", "slab[at + width - 1] = v1"),
        ("rows of slabs not aligned", "WIDTH = 36", "WIDTH = 34"),
        ("operands of a step exchanged", "part_a[p] * part_b[q]", "part_a[q] * part_b[p]"),
        ("registers exchanged", "part_a[q + 2], part_a[q + 3] = load4", "part_a[q + 3], part_a[q + 2] = load4"),
        ("set instead of added", "total[p * R + q] += part_a", "total[p * R + q] = part_a"),
        ("sums not set to zero", "total[i] = ZERO", "total[i] = total[i]"),
        ("C is always added to", "    if add:", "    if True:"),
        ("C is never added to", "    if add:", "    if False:"),
        ("row of C not looked at", "if down > 2:", "if True:"),
        ("last row of C left out", "if down > 3:", "if down > 4:"),
        ("column of C not looked at", "if left > 1:\n            c[at + 1]", "if left > 0:\n            c[at + 1]"),
        ("last column of C left out", "if left > 3:\n            c[at + 3]", "if left > 4:\n            c[at + 3]"),
        ("four columns stored where three are left", _STORED % 4, _STORED % 3),
        ("shares of k begin alike", "first = split * z * share", "first = 0"),
        ("shares of k overlap", "depth = min(share, k - first)", "depth = min(share + DEPTH, k - first)"),
        ("last share of k too long", "depth = min(share, k - first)", "depth = share"),
        ("matrix of the batch forgotten", "+ z % inner * a_inner", ""),
        ("matrix of the batch twice", "z * c_batch", "z * c_batch * 2"),
        ("lanes of a warp take rows twice", "* 4 + lane // 8", "* 4 + lane // 16"),
        ("a thread brings another's four", "k_a = thread % (DEPTH // 4) * 4", "k_a = thread % (DEPTH // 2) * 4"),
    ),
    *of("add_shares",
        ("one share left out", "range(1, count)", "range(2, count)"),
        ("first share twice", "range(1, count)", "range(0, count)"),
        ("rows of C not their own length", "i // n * c_row", "i // n * m"),
        ("set instead of added", "c[at] + total if add", "total if add"),
        ("threads do not share the elements out", "i = cuda.grid(1)", "i = 0"),
    ),
]

_ON = "        at_a += DEPTH * a_k\n        at_b += DEPTH * b_k\n"
_END = "        copies_end()\n" + _ON
_WAIT, _BARRIER = "        wait_copies1()\n", "        cuda.syncthreads()\n"
_THERE = "there = there + 2 * ROOM if there < %s * ROOM else 0"
for kernel, multiply, wide in (("tf32_64", "multiply_tf32(", 72), ("bf16_64", "multiply_bf16(", 68)):
    MUTANTS += of(kernel,
        ("no wait for the copies", _WAIT, ""),
        ("first groups of copies are not ended", _END + "    here", _ON + "    here"),
        ("groups of copies are not ended in the loop", _END + "        for i", _ON + "        for i"),
        ("no barrier after the wait", _WAIT + _BARRIER, _WAIT),
        ("barrier before the wait", _WAIT + _BARRIER, _BARRIER + _WAIT),
        ("two slabs for three", _THERE % 4, _THERE % 2),
        ("the slab that is multiplied is copied to", "here, there = (0, 4 * ROOM)", "here, there = (0, 0)"),
        ("slab of B in that of A", "copy_slab(slabs, there + ROOM, b", "copy_slab(slabs, there, b"),
        ("edge of k not looked at", _NO_EDGE, "if rows <= 0"),
        ("edge of rows not looked at", _NO_EDGE, "if depth <= 0"),
        ("four are always copied", "left = max(min(left, 4), 0)", "left = 4"),
        ("depth of the copies ahead", "left = depth - 2 * DEPTH", "left = depth - DEPTH"),
        ("k does not go on", _ON + "        for i", "        at_a += DEPTH * a_k\n        for i"),
        ("half of a fragment's rows", "(lane // 4, lane % 4)", "(lane // 8, lane % 4)"),
        ("registers of A exchanged", multiply + "part_a[0], part_a[1], part_a[2]",
         multiply + "part_a[0], part_a[2], part_a[1]"),
        ("a register of A twice", multiply + "part_a[0], part_a[1]", multiply + "part_a[0], part_a[0]"),
        ("rows of slabs too short", "place = row * LONG + k", "place = row * (LONG - 4) + k"),
        ("rows of slabs not aligned", f"WIDE = {wide}", "WIDE = 70"),
        ("sums not set to zero", "total[i] = ZERO", "total[i] = total[i]"),
        ("a second row of C left out", "if down > 16 * p + 8:", "if down > 16 * p + 9:"),
        ("second rows of C not looked at", "if down > 16 * p + 8:", "if down > 16 * p:"),
        ("columns of C not looked at", "across - 16", "across - 8"),
        ("column of C not looked at", "if left > 1:\n            c[at + 1]", "if left > 0:\n            c[at + 1]"),
        ("warps take the same columns", "* 32\n    row_a", "* 16\n    row_a"),
        ("shares of k begin alike", "first = split * z * share", "first = 0"),
    )

MUTANTS += [
    *of("tf32_64",
        ("matrices of A named in another order", "lane % 16) * LONG + lane // 16 * 4",
         "lane % 8 + lane // 16 * 8) * LONG + lane // 8 % 2 * 4"),
        ("matrices of B named in another order", "lane // 16 * 8 + lane % 8", "lane // 8 % 2 * 8 + lane % 8"),
        ("matrices at no multiple of 16 bytes", "+ lane // 16 * 4", "+ lane // 16 * 2"),
    ),
    *of("bf16_64",
        ("neighbours along the other axis", "slabs[at + k_step]", "slabs[at + 1]"),
        ("one half of a register twice", "pack_bf16(x0, x1)", "pack_bf16(x1, x1)"),
    ),
]
# fmt: on

if __name__ == "__main__":
    sys.stdout.write(page())
