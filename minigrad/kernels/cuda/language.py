"""Floor 2, CUDA: the words of a kernel beyond plain Python. Kernels are functions of flat pointers and whole numbers:

    def double(x, out, n):
        i = cuda.grid(1)
        if i < n:
            out[i] = 2.0 * x[i]

This file holds no meaning, only names and, for instructions, their PTX. A target gives the meaning: on a GPU
``vocabulary.py`` (with ``compile.py`` the only user of ``numba.cuda``), on the emulated device
``testing/simt/vocabulary.py``. A float literal has the dtype of the kernel, T. Write T(i) * x, not i * x: Numba makes
the product of an integer and a float32 a float64. Functions of ``math`` are those of the target.
"""

from __future__ import annotations

from typing import NamedTuple


class Word(NamedTuple):
    """A name that a target's vocabulary defines."""

    name: str
    meaning: str


class Instruction(NamedTuple):
    """A PTX instruction as a function.

    asm:          with $0, $1, ... for the results, then the arguments
    takes, gives: their types: "f4", "f8", "i4", "u4", "u8" (which is also an address)
    ordered:      it has effects, so it is neither moved nor dropped
    since:        the first compute capability that has it
    """

    name: str
    asm: str
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    ordered: bool = False
    since: tuple[int, int] = (7, 5)


cuda = Word("cuda", "threads, barriers, shared and local memory, warp functions and atomics, as in numba.cuda")
address = Word("address", "address(p, i): the 64-bit address of p[i], in global memory")
shared_address = Word("shared_address", "shared_address(a, i): the 32-bit address of a[i], in shared memory")
load4 = Word("load4", "load4(p, i): p[i], ..., p[i + 3] in one load; i a multiple of 4")
load2 = Word("load2", "load2(p, i): p[i], p[i + 1] in one load; i even")
store4 = Word("store4", "store4(p, i, (a, b, c, d)): the same as one store")
store2 = Word("store2", "store2(p, i, (a, b)): the same as one store")
grid_barrier = Word("grid_barrier", "grid_barrier(counter, target): each block adds 1 to counter[0] (u4), and waits "
                    "until it is target = blocks * barriers so far, this one too; cooperative launches")  # fmt: skip
group_barrier = Word("group_barrier", "group_barrier(counters, group, blocks, target): the same among the blocks of a "
                     "group, with counters[group]")  # fmt: skip

add_release = Instruction("add_release", "red.release.gpu.global.add.u32 [$0], $1;", ("u8", "u4"), ordered=True)
load_acquire = Instruction("load_acquire", "ld.acquire.gpu.global.u32 $0, [$1];", ("u8",), ("u4",), ordered=True)

copy16 = Instruction(
    "copy16", "cp.async.cg.shared.global [$0], [$1], 16, $2;", ("u4", "u8", "u4"), ordered=True, since=(8, 0)
)  # to shared memory from global, so many bytes and zeros after them
copy4 = Instruction("copy4", "cp.async.ca.shared.global [$0], [$1], 4, $2;", ("u4", "u8", "u4"), ordered=True,
                    since=(8, 0))  # fmt: skip
copies_end = Instruction("copies_end", "cp.async.commit_group;", ordered=True, since=(8, 0))  # of a group of copies
wait_copies1 = Instruction("wait_copies1", "cp.async.wait_group 1;", ordered=True, since=(8, 0))  # all groups but one
load_matrices = Instruction("load_matrices", "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0,$1,$2,$3}, [$4];", ("u4",),
                            ("u4",) * 4, ordered=True)  # fmt: skip
round_tf32 = Instruction("round_tf32", "cvt.rna.tf32.f32 $0, $1;", ("u4",), ("u4",), since=(8, 0))
pack_bf16 = Instruction("pack_bf16", "cvt.rn.bf16x2.f32 $0, $2, $1;", ("u4", "u4"), ("u4",), since=(8, 0))
_MMA = "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
multiply_tf32 = Instruction("multiply_tf32", f"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {_MMA}",
                            ("u4",) * 6 + ("f4",) * 4, ("f4",) * 4, since=(8, 0))  # fmt: skip
multiply_bf16 = Instruction("multiply_bf16", f"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {_MMA}",
                            ("u4",) * 6 + ("f4",) * 4, ("f4",) * 4, since=(8, 0))  # fmt: skip

INSTRUCTIONS = {x.name: x for x in list(globals().values()) if isinstance(x, Instruction)}
