"""Faults that a kernel for all steps may have, planted in its text; the tests must find every one."""

import hashlib
from typing import NamedTuple

from minigrad.kernels.cuda.kernel import File, Kernel
from minigrad.testing import simt


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


def plant(mutant, monkeypatch):
    """From now on kernels are compiled with the fault; the list that is returned gets those that have it."""
    original, planted = Kernel.file, []

    def file(self, *args):
        found = original(self, *args)
        if mutant.old not in found.text:
            return found
        text = found.text.replace(mutant.old, mutant.new)
        planted.append(self)
        return File(f"{found.stem}_{hashlib.sha256(text.encode()).hexdigest()[:8]}", text, found.takes)

    monkeypatch.setattr(Kernel, "file", file)
    monkeypatch.setattr(simt.device(), "_compiled", {})
    return planted
