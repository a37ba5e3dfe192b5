"""Floor 4: products with the weights inside of a kernel that runs all steps.

A block owns some columns of each weight, in tiles: of every ``tile`` columns those from ``low`` on, ``own`` of them. It
keeps them side by side, W[kk, c] at ``at + kk columns + c``, so that lanes read neighbouring words.
"""

# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from minigrad.kernels.cuda.language import cuda, load4


def column_of(c, own, tile, low):
    """The column of a weight that is number c of those owned."""
    return c // own * tile + low + c % own if own > 0 else 0


def keep_columns(p, at, row, turned, k, tiles, tile, low, own, weights, kept):
    """Copy the columns of a parameter: lanes walk along its rows, which are columns of the weight if it is turned."""
    lane, warp, warps = cuda.threadIdx.x % 32, cuda.threadIdx.x // 32, cuda.blockDim.x // 32
    for t in range(tiles):
        if turned:
            for j in range(warp, own, warps):
                for kk in range(lane, k, 32):
                    weights[kept + (kk * tiles + t) * own + j] = p[at + (t * tile + low + j) * row + kk]
        else:
            for kk in range(warp, k, warps):
                for j in range(lane, own, 32):
                    weights[kept + (kk * tiles + t) * own + j] = p[at + kk * row + t * tile + low + j]


def step_product(x, x_at, x_row, count, k, weights, kept, columns, width, splits, c, q, to, own, tile, low, shared,
                 staged, partial, chunk, z, z_at, z_row, add):  # fmt: skip
    """z[m] (+)= x[m] W in the columns owned, for ``count`` rows m, of which M at most are done.

    Thread (q, c) adds up column c over every ``splits``-th row of W, from q on, for all M members; then the threads of
    a column add their parts, always in the same order.
    """
    tid, threads = cuda.threadIdx.x, cuda.blockDim.x
    sums = cuda.local.array(M, T)
    for base in range(0, columns, width):
        for m in range(M):
            sums[m] = ZERO
        active = q < splits and base + c < columns
        for start in range(0, k, chunk):
            size = chunk if chunk < k - start else k - start
            if start > 0:
                cuda.syncthreads()
            i = tid
            while i < size * M:  # x, turned: members are neighbours
                m = i % M
                shared[staged + i] = x[x_at + m * x_row + start + i // M] if m < count else ZERO
                i += threads
            cuda.syncthreads()
            kk = q
            while active and kk < size:
                w = weights[kept + (start + kk) * columns + base + c]
                for m in range(0, M, 4):
                    x0, x1, x2, x3 = load4(shared, staged + kk * M + m)
                    sums[m] += x0 * w
                    sums[m + 1] += x1 * w
                    sums[m + 2] += x2 * w
                    sums[m + 3] += x3 * w
                kk += splits
        if active:
            for m in range(M):
                shared[partial + (q * M + m) * width + c] = sums[m]
        cuda.syncthreads()
        if active:
            column = to if base == 0 else column_of(base + c, own, tile, low)
            for m in range(q, count if count < M else M, splits):
                total = z[z_at + m * z_row + column] if add else ZERO
                for r in range(splits):
                    total += shared[partial + (r * M + m) * width + c]
                z[z_at + m * z_row + column] = total


def member_product(x, x_at, k, memory, at, over_k, over_n, n, z, z_at, add):
    """z[n] (+)= x times column n of one member's matrix."""
    total = z[z_at + n] if add else ZERO
    for kk in range(k):
        total += x[x_at + kk] * memory[at + kk * over_k + n * over_n]
    z[z_at + n] = total
