"""Floor 2, CUDA: the product of matrices by tiles, with the ordinary multiply-add.

A block computes a tile of C, TILE x TILE; a thread R x R numbers of it, in registers, in groups of four neighbours.
Shared memory holds a slab of A and one of B, DEPTH of k each, as [k][row], and room for the next two, which are loaded
meanwhile: one barrier for each DEPTH of k. B comes turned round, as (columns, k), so that both load in the same way.
"""

# mypy: ignore-errors
# ruff: noqa: F821   (T, ZERO: from the prelude of the kernel's dtype)

from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda, load4, store4


def fetch(x, at, rows, depth, x_row, x_k, along_k, whole):
    """Four neighbours of X from ``at`` on, along k or along the rows, of which so many rows and k are left; zeros
    outside; by one load if ``whole``: the neighbours lie side by side in memory, at multiples of four."""
    left = depth if along_k else rows
    if rows <= 0 or depth <= 0:
        left = 0
    if whole and left >= 4:
        return load4(x, at)
    step = x_k if along_k else x_row
    v0 = x[at] if left > 0 else ZERO
    v1 = x[at + step] if left > 1 else ZERO
    v2 = x[at + 2 * step] if left > 2 else ZERO
    v3 = x[at + 3 * step] if left > 3 else ZERO
    return v0, v1, v2, v3


def put(slab, at, width, along_k, values):
    """The four into a slab [k][row]."""
    v0, v1, v2, v3 = values
    if along_k:
        slab[at] = v0
        slab[at + width] = v1
        slab[at + 2 * width] = v2
        slab[at + 3 * width] = v3
    else:
        store4(slab, at, values)


def step(slab_a, slab_b, i, x, y, part_a, part_b, total, R, SIDE):
    """One k, which is at ``i`` in the slabs: the products of R numbers of A and R of B are added to those of C."""
    for h in range(R // 4):
        q, to = 4 * h, i + h * 4 * SIDE
        part_a[q], part_a[q + 1], part_a[q + 2], part_a[q + 3] = load4(slab_a, to + 4 * y)
        part_b[q], part_b[q + 1], part_b[q + 2], part_b[q + 3] = load4(slab_b, to + 4 * x)
    for p in range(R):
        for q in range(R):
            total[p * R + q] += part_a[p] * part_b[q]


def give(c, at, left, whole, add, v0, v1, v2, v3):
    """Four neighbours of a row of C, of which so many columns are left."""
    if add:
        v0 += c[at] if left > 0 else ZERO
        v1 += c[at + 1] if left > 1 else ZERO
        v2 += c[at + 2] if left > 2 else ZERO
        v3 += c[at + 3] if left > 3 else ZERO
    if whole and left >= 4:
        store4(c, at, (v0, v1, v2, v3))
    else:
        if left > 0:
            c[at] = v0
        if left > 1:
            c[at + 1] = v1
        if left > 2:
            c[at + 2] = v2
        if left > 3:
            c[at + 3] = v3


def give_square(c, at, down, across, c_row, whole, add, total, i, R):
    """Four rows of four columns of C; a loop over them would not be unrolled, and ``total`` no registers."""
    if down > 0:
        give(c, at, across, whole, add, total[i], total[i + 1], total[i + 2], total[i + 3])
    at, i = at + c_row, i + R
    if down > 1:
        give(c, at, across, whole, add, total[i], total[i + 1], total[i + 2], total[i + 3])
    at, i = at + c_row, i + R
    if down > 2:
        give(c, at, across, whole, add, total[i], total[i + 1], total[i + 2], total[i + 3])
    at, i = at + c_row, i + R
    if down > 3:
        give(c, at, across, whole, add, total[i], total[i + 1], total[i + 2], total[i + 3])


def tile(c, a, b, m, n, k, share, split, inner, c_first, c_batch, c_row, c_whole, a_first, a_outer, a_inner, a_row, a_k,
         a_along, a_whole, b_first, b_outer, b_inner, b_row, b_k, b_along, b_whole, add, TILE, R, SIDE, DEPTH, WIDTH,
         ROOM, NUMBERS, STEPS):  # fmt: skip
    """C (m, n) = or += A (m, k) B (n, k)^T: blocks (x, y, z) for the tiles of rows, of columns, and a batch, of which
    number z is (z // inner, z % inner). With ``split`` z is a share of k, which gets a C of its own."""
    slab_a = cuda.shared.array(ROOM, T, alignment=32)
    slab_b = cuda.shared.array(ROOM, T, alignment=32)
    total = cuda.local.array(NUMBERS, T)
    part_a = cuda.local.array(R, T)
    part_b = cuda.local.array(R, T)
    for i in range(NUMBERS):
        total[i] = ZERO

    thread = cuda.threadIdx.x
    lane, warp = thread % 32, thread // 32  # a warp is 4 x 8 threads of the tile: 4 and 8 groups read at once
    x = warp % (SIDE // 8) * 8 + lane % 8
    y = warp // (SIDE // 8) * 4 + lane // 8
    z, row0, column0 = cuda.blockIdx.z, cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    at_a = a_first + z // inner * a_outer + z % inner * a_inner
    at_b = b_first + z // inner * b_outer + z % inner * b_inner

    # which four of a slab this thread brings
    row_a = thread // (DEPTH // 4) if a_along else thread % (TILE // 4) * 4
    k_a = thread % (DEPTH // 4) * 4 if a_along else thread // (TILE // 4)
    row_b = thread // (DEPTH // 4) if b_along else thread % (TILE // 4) * 4
    k_b = thread % (DEPTH // 4) * 4 if b_along else thread // (TILE // 4)
    to_a, to_b = k_a * WIDTH + row_a, k_b * WIDTH + row_b

    first = split * z * share
    depth = min(share, k - first)  # of k left
    at_a += (row0 + row_a) * a_row + (first + k_a) * a_k
    at_b += (column0 + row_b) * b_row + (first + k_b) * b_k
    rows_a, rows_b = m - row0 - row_a, n - column0 - row_b
    next_a = fetch(a, at_a, rows_a, depth - k_a, a_row, a_k, a_along, a_whole)
    next_b = fetch(b, at_b, rows_b, depth - k_b, b_row, b_k, b_along, b_whole)
    put(slab_a, to_a, WIDTH, a_along, next_a)
    put(slab_b, to_b, WIDTH, b_along, next_b)
    cuda.syncthreads()
    here = 0
    while depth > 0:
        depth -= DEPTH
        if depth > 0:
            at_a += DEPTH * a_k
            at_b += DEPTH * b_k
            next_a = fetch(a, at_a, rows_a, depth - k_a, a_row, a_k, a_along, a_whole)
            next_b = fetch(b, at_b, rows_b, depth - k_b, b_row, b_k, b_along, b_whole)
        for i in range(here, here + DEPTH * WIDTH, STEPS * WIDTH):
            step(slab_a, slab_b, i, x, y, part_a, part_b, total, R, SIDE)
            if STEPS == 4:  # few numbers for a thread: the loop's own instructions would weigh
                step(slab_a, slab_b, i + WIDTH, x, y, part_a, part_b, total, R, SIDE)
                step(slab_a, slab_b, i + 2 * WIDTH, x, y, part_a, part_b, total, R, SIDE)
                step(slab_a, slab_b, i + 3 * WIDTH, x, y, part_a, part_b, total, R, SIDE)
        here = DEPTH * WIDTH - here
        if depth > 0:
            put(slab_a, here + to_a, WIDTH, a_along, next_a)
            put(slab_b, here + to_b, WIDTH, b_along, next_b)
            cuda.syncthreads()

    at = c_first + z * c_batch + (row0 + 4 * y) * c_row + column0 + 4 * x
    down, across, far = m - row0 - 4 * y, n - column0 - 4 * x, 4 * SIDE  # what is left of C from there on
    give_square(c, at, down, across, c_row, c_whole, add, total, 0, R)
    if R == 8:
        give_square(c, at + far, down, across - far, c_row, c_whole, add, total, 4, R)
        at += far * c_row
        give_square(c, at, down - far, across, c_row, c_whole, add, total, 32, R)
        give_square(c, at + far, down - far, across - far, c_row, c_whole, add, total, 36, R)


def add_shares(c, shares, m, n, c_row, c_first, count, add):
    """C = or += the sum of the shares, each (m, n), in their order."""
    i = cuda.grid(1)
    while i < m * n:
        total = shares[i]
        for s in range(1, count):
            total += shares[s * m * n + i]
        at = c_first + i // n * c_row + i % n
        c[at] = c[at] + total if add else total
        i += cuda.gridsize(1)


def _tile(size: int, of_thread: int, dtypes: tuple[str, ...] = ("float32", "float64")) -> Kernel:
    """The kernel for tiles of this size: a thread brings four numbers of each slab, which says how deep they are."""
    side, width = size // of_thread, size + 4
    depth = 4 * side * side // size
    return Kernel(tile, "T* T* T*" + 25 * " i8", threads=side * side, dtypes=dtypes, name=f"tile_{size}",
                  promises=("LDG.E.128", "STS.128", "STG.E.128"), TILE=size,
                  R=of_thread, SIDE=side, DEPTH=depth, WIDTH=width, ROOM=2 * depth * width,
                  NUMBERS=of_thread * of_thread, STEPS=1 if of_thread == 8 else 4)  # fmt: skip


TILES = {128: _tile(128, 8, ("float32",)), 64: _tile(64, 4), 32: _tile(32, 4)}
ADD_SHARES = Kernel(add_shares, "T* T*" + 6 * " i8")
