"""Floor 2, CUDA: the product of float32 matrices by tiles, on tensor cores (from compute capability 8.0 on).

The numbers are rounded to tf32 (10 bits after the point) or bf16 (7 bits) and multiplied exactly, the sums are float32.
A block computes a tile of C, TILE x TILE, a warp 16 ROWS x 32 of it. Slabs of A and B, DEPTH of k each, are copied to
shared memory while the two before are multiplied: three are on their way at a time, and there is one barrier for each.
Slabs lie as the operands do, [row][k] or [k][row], with rows so long that the loads of a warp meet in no bank.
"""

# mypy: ignore-errors
# ruff: noqa: F821   (T, ZERO: from the prelude of the kernel's dtype)

import numpy as np

from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import (
    address,
    copies_end,
    copy4,
    copy16,
    cuda,
    load2,
    load_matrices,
    multiply_bf16,
    multiply_tf32,
    pack_bf16,
    round_tf32,
    shared_address,
    store2,
    wait_copies1,
)


def copy(slabs, to, x, at, rows, depth, x_row, x_k, along_k, whole):
    """Begin to copy four neighbours of X from ``at`` on, of which so many rows and k are left, and zeros outside."""
    left = depth if along_k else rows
    if rows <= 0 or depth <= 0:
        left = 0
    left = max(min(left, 4), 0)
    if whole:
        copy16(shared_address(slabs, to), address(x, at), 4 * left)
    else:
        step = x_k if along_k else x_row
        copy4(shared_address(slabs, to), address(x, at), 4 * min(left, 1))
        copy4(shared_address(slabs, to + 1), address(x, at + step), 4 * max(min(left - 1, 1), 0))
        copy4(shared_address(slabs, to + 2), address(x, at + 2 * step), 4 * max(min(left - 2, 1), 0))
        copy4(shared_address(slabs, to + 3), address(x, at + 3 * step), 4 * max(left - 3, 0))


def copy_slab(slabs, to, x, at, rows, depth, x_row, x_k, along_k, whole, TILE, DEPTH, LONG, WIDE, THREADS):
    """A slab of X, TILE rows and DEPTH of k from ``at`` on."""
    for i in range(cuda.threadIdx.x, TILE * DEPTH // 4, THREADS):
        if along_k:
            row, k = i // (DEPTH // 4), i % (DEPTH // 4) * 4
            place = row * LONG + k
        else:
            k, row = i // (TILE // 4), i % (TILE // 4) * 4
            place = k * WIDE + row
        copy(slabs, to + place, x, at + row * x_row + k * x_k, rows - row, depth - k, x_row, x_k, along_k, whole)


def pairs(slabs, at, k_step):
    """Two neighbours along k as two bf16."""
    if k_step == 1:
        x0, x1 = load2(slabs, at)
    else:
        x0, x1 = slabs[at], slabs[at + k_step]
    return pack_bf16(x0, x1)


def give(c, at, left, whole, add, v0, v1):
    """Two neighbours of a row of C, of which so many columns are left."""
    if add:
        v0 += c[at] if left > 0 else ZERO
        v1 += c[at + 1] if left > 1 else ZERO
    if whole and left >= 2:
        store2(c, at, (v0, v1))
    else:
        if left > 0:
            c[at] = v0
        if left > 1:
            c[at + 1] = v1


def give_row(c, at, across, whole, add, total, i):
    """A thread's part of a row of C: two numbers in each of four blocks of 8."""
    give(c, at, across, whole, add, total[i], total[i + 1])
    give(c, at + 8, across - 8, whole, add, total[i + 4], total[i + 5])
    give(c, at + 16, across - 16, whole, add, total[i + 8], total[i + 9])
    give(c, at + 24, across - 24, whole, add, total[i + 12], total[i + 13])


def tensor_tile(c, a, b, m, n, k, share, split, inner, c_first, c_batch, c_row, c_whole, a_first, a_outer, a_inner,
                a_row, a_k, a_along, a_whole, b_first, b_outer, b_inner, b_row, b_k, b_along, b_whole, add, BF16, TILE,
                ROWS, DEPTH, LONG, WIDE, ROOM, THREADS, NUMBERS):  # fmt: skip
    """C (m, n) = or += A (m, k) B (n, k)^T; the arguments are those of ``tile`` in tiles.py."""
    slabs = cuda.shared.array(0, np.uint32, alignment=16)  # 3 x (of A, of B), ROOM each
    total = cuda.local.array(NUMBERS, T)
    part_a = cuda.local.array(4, np.uint32)
    part_b = cuda.local.array(8, np.uint32)
    for i in range(NUMBERS):
        total[i] = ZERO

    z, row0, column0 = cuda.blockIdx.z, cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    first = split * z * share
    depth = min(share, k - first)  # of k left
    at_a = a_first + z // inner * a_outer + z % inner * a_inner + row0 * a_row + first * a_k
    at_b = b_first + z // inner * b_outer + z % inner * b_inner + column0 * b_row + first * b_k

    lane, warp = cuda.threadIdx.x % 32, cuda.threadIdx.x // 32
    group, four = lane // 4, lane % 4
    warp_row = warp % (TILE // (16 * ROWS)) * (16 * ROWS)
    warp_column = warp // (TILE // (16 * ROWS)) * 32
    row_a, k_step_a = (LONG, 1) if a_along else (1, WIDE)  # strides in the slabs
    row_b, k_step_b = (LONG, 1) if b_along else (1, WIDE)
    pair = 2 if BF16 else 1  # k that lie in one register
    here_a = (warp_row + group) * row_a + four * pair * k_step_a
    here_b = (warp_column + group) * row_b + four * pair * k_step_b
    # of the four matrices that a warp loads at once, each lane names a row
    matrices_a = (warp_row + lane % 16) * LONG + lane // 16 * 4
    matrices_b = (warp_column + lane // 16 * 8 + lane % 8) * LONG + lane // 8 % 2 * 4

    for stage in range(2):
        left = depth - stage * DEPTH
        copy_slab(slabs, 2 * ROOM * stage, a, at_a, m - row0, left, a_row, a_k, a_along, a_whole, TILE, DEPTH, LONG,
                  WIDE, THREADS)  # fmt: skip
        copy_slab(slabs, 2 * ROOM * stage + ROOM, b, at_b, n - column0, left, b_row, b_k, b_along, b_whole, TILE, DEPTH,
                  LONG, WIDE, THREADS)  # fmt: skip
        copies_end()
        at_a += DEPTH * a_k
        at_b += DEPTH * b_k
    here, there = 0, 4 * ROOM  # the slabs that are multiplied, and those that are copied
    while depth > 0:
        wait_copies1()
        cuda.syncthreads()
        left = depth - 2 * DEPTH
        copy_slab(slabs, there, a, at_a, m - row0, left, a_row, a_k, a_along, a_whole, TILE, DEPTH, LONG, WIDE, THREADS)
        copy_slab(slabs, there + ROOM, b, at_b, n - column0, left, b_row, b_k, b_along, b_whole, TILE, DEPTH, LONG,
                  WIDE, THREADS)  # fmt: skip
        copies_end()
        at_a += DEPTH * a_k
        at_b += DEPTH * b_k
        for i in range(0, DEPTH, 8 * pair):
            at = here + ROOM + here_b + i * k_step_b
            if BF16:
                for j in range(4):
                    part_b[2 * j] = pairs(slabs, at + 8 * j * row_b, k_step_b)
                    part_b[2 * j + 1] = pairs(slabs, at + 8 * j * row_b + 8 * k_step_b, k_step_b)
            elif b_along:
                for j in range(2):
                    to = shared_address(slabs, here + ROOM + matrices_b + i + 16 * j * LONG)
                    x0, x1, x2, x3 = load_matrices(to)
                    part_b[4 * j], part_b[4 * j + 1] = round_tf32(x0), round_tf32(x1)
                    part_b[4 * j + 2], part_b[4 * j + 3] = round_tf32(x2), round_tf32(x3)
            else:
                for j in range(4):
                    part_b[2 * j] = round_tf32(slabs[at + 8 * j])
                    part_b[2 * j + 1] = round_tf32(slabs[at + 8 * j + 4 * k_step_b])
            for p in range(ROWS):
                at = here + here_a + 16 * p * row_a + i * k_step_a
                if BF16:
                    part_a[0] = pairs(slabs, at, k_step_a)
                    part_a[1] = pairs(slabs, at + 8 * row_a, k_step_a)
                    part_a[2] = pairs(slabs, at + 8 * k_step_a, k_step_a)
                    part_a[3] = pairs(slabs, at + 8 * row_a + 8 * k_step_a, k_step_a)
                elif a_along:
                    x0, x1, x2, x3 = load_matrices(shared_address(slabs, here + matrices_a + i + 16 * p * LONG))
                    part_a[0], part_a[1] = round_tf32(x0), round_tf32(x1)
                    part_a[2], part_a[3] = round_tf32(x2), round_tf32(x3)
                else:
                    part_a[0] = round_tf32(slabs[at])
                    part_a[1] = round_tf32(slabs[at + 8])
                    part_a[2] = round_tf32(slabs[at + 4 * k_step_a])
                    part_a[3] = round_tf32(slabs[at + 8 + 4 * k_step_a])
                for j in range(4):
                    q = 16 * p + 4 * j
                    if BF16:
                        total[q], total[q + 1], total[q + 2], total[q + 3] = multiply_bf16(
                            part_a[0], part_a[1], part_a[2], part_a[3], part_b[2 * j], part_b[2 * j + 1],
                            total[q], total[q + 1], total[q + 2], total[q + 3])  # fmt: skip
                    else:
                        total[q], total[q + 1], total[q + 2], total[q + 3] = multiply_tf32(
                            part_a[0], part_a[1], part_a[2], part_a[3], part_b[2 * j], part_b[2 * j + 1],
                            total[q], total[q + 1], total[q + 2], total[q + 3])  # fmt: skip
        depth -= DEPTH
        here = here + 2 * ROOM if here < 4 * ROOM else 0
        there = there + 2 * ROOM if there < 4 * ROOM else 0

    at = c_first + z * c_batch + (row0 + warp_row + group) * c_row + column0 + warp_column + 2 * four
    down, across = m - row0 - warp_row - group, n - column0 - warp_column - 2 * four
    for p in range(ROWS):
        if down > 16 * p:
            give_row(c, at + 16 * p * c_row, across, c_whole, add, total, 16 * p)
        if down > 16 * p + 8:
            give_row(c, at + (16 * p + 8) * c_row, across, c_whole, add, total, 16 * p + 2)


def _tile(bf16: bool, size: int, rows: int) -> Kernel:
    """Rows are as long as makes the 32 loads of a warp meet in no bank of shared memory."""
    depth, threads = 16, 32 * (size // (16 * rows)) * (size // 32)
    long, wide = (depth + 8, size + 4) if bf16 else (depth + 4, size + 8)
    promises = ("HMMA.16816.F32.BF16",) if bf16 else ("HMMA.1688.F32.TF32", "LDSM.16.M88.4")
    return Kernel(tensor_tile, "T* T* T*" + 25 * " i8", threads=threads, dtypes=("float32",),
                  promises=("LDGSTS.E.BYPASS.128", "STG.E.64", *promises),
                  name=f"{'bf16' if bf16 else 'tf32'}_{size}", BF16=int(bf16), TILE=size, ROWS=rows, DEPTH=depth,
                  LONG=long, WIDE=wide, ROOM=max(size * long, depth * wide), THREADS=threads,
                  NUMBERS=16 * rows)  # fmt: skip


TENSOR_TILES = {
    "tf32": {128: _tile(False, 128, 4), 64: _tile(False, 64, 2)},
    "bf16": {128: _tile(True, 128, 4), 64: _tile(True, 64, 2)},
}


def shared_bytes(kernel: Kernel) -> int:
    """Bytes of dynamic shared memory that a kernel of the above needs; none for another."""
    return 3 * 2 * kernel.constants["ROOM"] * 4 if kernel.function is tensor_tile else 0
