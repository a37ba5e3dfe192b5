"""Faults that a kernel for all steps may have, planted in its text; the tests must find every one."""

import hashlib
from contextlib import contextmanager
from typing import NamedTuple
from unittest.mock import patch

from test_cuda_scan import Case

from minigrad.compiler.cuda.group import GroupLoop, Shape
from minigrad.kernels.cuda.kernel import File, Kernel
from minigrad.testing import simt
from minigrad.testing.simt import KernelError


class Mutant(NamedTuple):
    what: str
    old: str
    new: str
    cell: str = "lstm"
    parts: int = 2


_LAYOUT = "now, before, after, members = layout[4 * s], layout[4 * s + 1], layout[4 * s + 2], layout[4 * s + 3]"
_STAGED = """cuda.syncthreads()
            for u in range(AHEAD):
                i = tid + u * threads
                m,"""

MUTANTS = [
    Mutant("no barrier of the group", "group_barrier(counters, group, parts, target)", "cuda.syncthreads()"),
    Mutant("a barrier that waits for one block less", "target += parts", "target += parts - 1"),
    Mutant("no barrier between product and row function", "cuda.syncthreads()\n            b = row", "b = row"),
    Mutant("no barrier between steps", "cuda.syncthreads()\n            b = first", "b = first", parts=1),
    Mutant("the last column is nobody's", "(part + 1) // parts\n", "(part + 1) // parts - (part == 1)\n"),
    Mutant("the first column is nobody's", "* part // parts,", "* part // parts + (part == 0),"),
    Mutant("the state before is that after", _LAYOUT, _LAYOUT.replace("layout[4 * s + 1]", "layout[4 * s + 2]")),
    Mutant("the state after is that before", _LAYOUT, _LAYOUT.replace("layout[4 * s + 2]", "layout[4 * s + 1]")),
    Mutant("rows of the step before", _LAYOUT, _LAYOUT.replace("layout[4 * s],", "layout[4 * max(s - 1, 0)],")),
    Mutant("members that have ended go on", "stop = last if last < members else members", "stop = last"),
    Mutant("a member that is in no group", "batch * group // groups,", "batch * group // groups + group,"),
    Mutant("backward walks forward", "s = steps - 1 - i", "s = i"),
    Mutant("the carried gradient of the step itself", "1 - (s & 1)", "s & 1"),
    Mutant("another weight's columns", "kept + kept_1, columns", "kept + kept_0, columns", "gru_before"),
    Mutant("a row of the weight beside", "(start // 4 + r) * columns", "r * columns"),
    Mutant("a column beside", "columns + c + j - low) + kk", "columns + c + j - low + 1) + kk"),
    Mutant("gates overwrite each other", "        c += high - low\n", ""),
    Mutant("a weight that is not turned", "(first + j) * row + kk", "(first + j) + kk * row"),
    Mutant("operands read before they are there", _STAGED, _STAGED.removeprefix("cuda.syncthreads()")),
    Mutant("operands overwritten while they are read", "if start > 0:\n                cuda.syncthreads()", "pass"),
    Mutant("parts added before they are there", "cuda.syncthreads()\n        for u", "for u"),
    Mutant("rows behind the last", "kk < k else ZERO", "kk < k else ONE"),
    Mutant("a member of another group", "batch * (group + 1) // groups", "batch"),
    Mutant("a part of the sum is left out", "for r in range(splits)", "for r in range(1, splits)"),
    Mutant("a sum that goes on", "sums[u] = ZERO", "sums[u] = sums[u]"),
    Mutant("product in place of what was there", "if add and active", "if active"),
    Mutant("a row of every second part", "first + part + parts * warp", "first + parts * warp", "layer_norm_lstm"),
    Mutant("a lane's share of a sum", "s8 = warp_sum(s8)\n", "\n", "layer_norm_lstm"),
]  # fmt: skip


def case(mutant):
    return Case(mutant.cell, 3, 7, 2, 5, lengths=[2, 3, 0, 1, 3, 3, 2])


@contextmanager
def shaped(mutant):
    """Every loop has the shape that the fault wants."""
    with patch.object(GroupLoop, "shape", lambda *_: Shape(mutant.parts, 2, 4, 4, 64, True)):
        yield


@contextmanager
def planted(mutant):
    """From now on kernels are compiled with the fault."""
    original, met = Kernel.file, []

    def file(self, *args):
        found = original(self, *args)
        if mutant.old not in found.text:
            return found
        text = found.text.replace(mutant.old, mutant.new)
        met.append(self)
        return File(f"{found.stem}_{hashlib.sha256(text.encode()).hexdigest()[:8]}", text, found.takes)

    with patch.object(Kernel, "file", file), patch.object(simt.device(), "_compiled", {}):
        yield
    assert met, f"{mutant.what}: '{mutant.old}' is no longer in the kernels"


def caught(mutant):
    """How a run shows that something is wrong; "" if it does not."""
    with shaped(mutant), planted(mutant):
        try:
            case(mutant).check()
        except KernelError as error:
            return type(error).__name__
        except AssertionError as error:
            return "NaN" if "nan" in str(error) else "wrong numbers"
    return ""
