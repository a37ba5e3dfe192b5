"""Planted faults in CUDA kernels: each changes a line of a kernel's text, and a run on the emulated device must notice.

``CASES`` says what is run for the kernels whose file's name begins so: pairs of what is found, and how far it may be
from what is right. The table of the docs is written by ``python tests/cuda_mutants.py``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from minigrad.kernels.cuda import matmul
from minigrad.kernels.cuda.tiles import TILES
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


def table() -> str:
    """Markdown: every mutant and how it was caught."""
    rows = [f"| `{m.kernel}` | {m.name} | {caught(m) or '**survived**'} |" for m in MUTANTS]
    return "\n".join(["| kernel | fault | caught by |", "| --- | --- | --- |", *rows])


# ------------------------------------------------------------------------------------------------ products


def product(kind, size, sizes, turned=(False, False), shares=1, add=False, batch=1, cut=False, watched=False):
    """A product with tiles of this size: turned operands lie column by column, cut ones at no multiple of 16 bytes."""

    def run(device):
        m, k, n = sizes
        random = np.random.default_rng(0)
        a, b, c = (random.integers(-9, 10, (batch, *s)).astype(np.float32) for s in ((m, k), (k, n), (m, n)))
        put = []
        for x, t in zip((a, b), turned):
            x = x.swapaxes(1, 2) if t else x
            room = np.full((batch, x.shape[1] + 1, x.shape[2] + 1), np.nan, np.float32)
            room[:, 1:, 1:] = x
            x = device.put(room).cut((slice(None), slice(1, None), slice(1, None))) if cut else device.put(x)
            put.append(x.transpose((0, 2, 1)) if t else x)
        before = matmul.config, matmul.choose
        matmul.config, matmul.choose = replace(matmul.config, matmul=kind), lambda *given: (size, shares)
        try:
            if batch > 1:
                into = matmul.matmul(device, *put)
            else:
                into = device.put(np.full((1, m + 1, n), 7, np.float32) if not add else np.full((1, m + 1, n), 7) + c[0, 0])
                into = device.put(np.concatenate([c, np.full((1, 1, n), 7, np.float32)], 1)[0])
                x, y = (x.view(x.shape[1:], x.strides[1:]) for x in put)
                matmul.product_into(device, into.cut((slice(m),)), x, y, add)
        finally:
            matmul.config, matmul.choose = before
        expected = a @ b + (c if add else 0)
        if batch == 1:
            expected = np.concatenate([expected, np.full((1, 1, n), 7)], 1)[0]
        yield device.download(into), expected, 0
    return Case(run, watched)


def products(kind, size, small):
    """Whole groups of four and others, edges of tiles, both ways that operands lie, k of several slabs and not."""
    larger = size + 4
    return [
        product(kind, size, (size, 40, size), (False, True)),
        product(kind, size, (larger, 44, larger), (False, False)),
        product(kind, size, (larger, 44, larger), (True, True), add=True),
        product(kind, size, (size - 3, 19, size - 1), (False, True), cut=True, add=True),
        product(kind, size, (size + 1, 21, 7), (True, False), cut=True),
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
assert {name.split("_")[1] for name in CASES} >= {str(size) for size in TILES if size < 64}


def of(kernel, *faults):
    return [Mutant(kernel, *fault) for fault in faults]


_PUT = """            put(slab_b, here + to_b, WIDTH, b_along, next_b)
            cuda.syncthreads()
"""
_FIRST = """    put(slab_b, to_b, WIDTH, b_along, next_b)
    cuda.syncthreads()
"""
_WAIT = """        wait_copies1()
        cuda.syncthreads()
"""

# fmt: off
MUTANTS = [
    *of("tile_32",
        ("no barrier after the first slab", _FIRST, _FIRST.replace("    cuda.syncthreads()\n", "")),
        ("no barrier after the next slab", _PUT, _PUT.replace("            cuda.syncthreads()\n", "")),
        ("a barrier that some threads skip", "        if depth > 0:\n            put(slab_a", "        if depth > 0 and rows_a > 0:\n            put(slab_a"),
        ("one slab for two", "here = DEPTH * WIDTH - here", "here = here"),
        ("slabs that overlap", "here = DEPTH * WIDTH - here", "here = DEPTH * WIDTH - WIDTH - here"),
        ("edge of k not looked at", "if rows <= 0 or depth <= 0", "if rows <= 0"),
        ("edge of rows not looked at", "if rows <= 0 or depth <= 0", "if depth <= 0"),
        ("one row too few", "if rows <= 0 or", "if rows <= 1 or"),
        ("three left are loaded as four", "if whole and left >= 4:\n        return", "if whole and left >= 3:\n        return"),
        ("third neighbour always there", "v2 = x[at + 2 * step] if left > 2 else ZERO", "v2 = x[at + 2 * step] if left > 1 else ZERO"),
        ("step of the other axis", "step = x_k if along_k else x_row", "step = x_row if along_k else x_k"),
        ("k does not go on", "            at_b += DEPTH * b_k\n", ""),
        ("rows of slabs too short", "slab[at + width] = v1", "slab[at + width - 1] = v1"),
        ("slabs without padding", "WIDTH = 36", "WIDTH = 32\nPAD = 4"),
        ("operands of a step exchanged", "part_a[p] * part_b[q]", "part_a[q] * part_b[p]"),
        ("a number of A in a wrong register", "part_a[q + 2], part_a[q + 3] = load4", "part_a[q + 3], part_a[q + 2] = load4"),
        ("set instead of added", "total[p * R + q] += part_a", "total[p * R + q] = part_a"),
        ("sums not set to zero", "total[i] = ZERO", "total[i] = total[i]"),
        ("C is always added to", "    if add:", "    if True:"),
        ("C is never added to", "    if add:", "    if False:"),
        ("row of C not looked at", "if down > 2:", "if True:"),
        ("last row of C left out", "if down > 3:", "if down > 4:"),
        ("column of C not looked at", "if left > 1:\n            c[at + 1]", "if left > 0:\n            c[at + 1]"),
        ("last column of C left out", "if left > 3:\n            c[at + 3]", "if left > 4:\n            c[at + 3]"),
        ("four columns stored where three are left", "if whole and left >= 4:\n        store4", "if whole and left >= 3:\n        store4"),
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
    *[m for kernel in ("tf32_64", "bf16_64") for m in of(kernel,
        ("no wait for the copies", "        wait_copies1()\n", ""),
        ("waits before the last group is one", "        copies_end()\n        at_a += DEPTH * a_k\n        at_b += DEPTH * b_k\n    here", "        at_a += DEPTH * a_k\n        at_b += DEPTH * b_k\n    here"),
        ("groups are not ended in the loop", "        copies_end()\n        at_a += DEPTH * a_k\n        at_b += DEPTH * b_k\n        for i", "        at_a += DEPTH * a_k\n        at_b += DEPTH * b_k\n        for i"),
        ("no barrier after the wait", _WAIT, "        wait_copies1()\n"),
        ("barrier before the wait", _WAIT, "        cuda.syncthreads()\n        wait_copies1()\n"),
        ("two slabs for three", "there = there + 2 * ROOM if there < 4 * ROOM else 0", "there = there + 2 * ROOM if there < 2 * ROOM else 0"),
        ("slab that is multiplied is copied to", "here, there = (0, 4 * ROOM)", "here, there = (0, 0)"),
        ("slab of B in that of A", "copy_slab(slabs, there + ROOM, b", "copy_slab(slabs, there, b"),
        ("edge of k not looked at", "if rows <= 0 or depth <= 0", "if rows <= 0"),
        ("edge of rows not looked at", "if rows <= 0 or depth <= 0", "if depth <= 0"),
        ("all of a group of four always copied", "left = max(min(left, 4), 0)", "left = 4"),
        ("depth of the copies ahead", "left = depth - 2 * DEPTH", "left = depth - DEPTH"),
        ("k does not go on", "        at_b += DEPTH * b_k\n        for i", "        for i"),
        ("half of a fragment's rows", "group, four = (lane // 4, lane % 4)", "group, four = (lane // 8, lane % 4)"),
        ("fragments of C exchanged", "multiply_%s(part_a[0], part_a[1], part_a[2]" % kernel[:4], "multiply_%s(part_a[0], part_a[2], part_a[1]" % kernel[:4]),
        ("halves of B exchanged", "part_a[3], part_b[2 * j], part_b[2 * j + 1], total[q], total[q + 1], total[q + 2], total[q + 3])\n                    else:" if kernel == "bf16_64" else "multiply_tf32(part_a[0], part_a[1], part_a[2], part_a[3], part_b[2 * j], part_b[2 * j + 1]",
         "part_a[3], part_b[2 * j + 1], part_b[2 * j], total[q], total[q + 1], total[q + 2], total[q + 3])\n                    else:" if kernel == "bf16_64" else "multiply_tf32(part_a[0], part_a[1], part_a[2], part_a[3], part_b[2 * j + 1], part_b[2 * j]"),
        ("rows of slabs too short", "place = row * LONG + k", "place = row * (LONG - 4) + k"),
        ("rows of slabs not aligned", "WIDE = %d" % {"tf32_64": 72, "bf16_64": 68}[kernel], "WIDE = 70"),
        ("set instead of added to", "total[i] = ZERO", "total[i] = ONE"),
        ("second rows of C left out", "if down > 16 * p + 8:", "if down > 16 * p + 9:"),
        ("second rows of C not looked at", "if down > 16 * p + 8:", "if down > 16 * p:"),
        ("columns of C", "across - 16", "across - 8"),
        ("column of C not looked at", "if left > 1:\n            c[at + 1]", "if left > 0:\n            c[at + 1]"),
        ("warps take the same columns", "* 32\n    row_a", "* 16\n    row_a"),
        ("shares of k begin alike", "first = split * z * share", "first = 0"),
    )],
    *of("tf32_64",
        ("matrices of A named in a wrong order", "matrices_a = (warp_row + lane % 16) * LONG + lane // 16 * 4", "matrices_a = (warp_row + lane % 8 + lane // 16 * 8) * LONG + lane // 8 % 2 * 4"),
        ("matrices of B named in a wrong order", "lane // 16 * 8 + lane % 8", "lane // 8 % 2 * 8 + lane % 8"),
        ("matrices at no multiple of 16 bytes", "+ lane // 16 * 4", "+ lane // 16 * 2"),
    ),
    *of("bf16_64",
        ("neighbours along the rows", "slabs[at + k_step]", "slabs[at + 1]"),
        ("halves of a register exchanged", "pack_bf16(x0, x1)", "pack_bf16(x1, x1)"),
    ),
]
# fmt: on

if __name__ == "__main__":
    print(table())
