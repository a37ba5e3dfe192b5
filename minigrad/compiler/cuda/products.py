"""Floor 4: products with the weights inside of a kernel that runs all steps.

A block owns some columns of each weight: of every ``tile`` columns those from ``low`` to ``high``. It keeps them side
by side, W[kk, c] at ``kept + kk columns + c``, so that lanes read neighbouring words.
"""

# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from minigrad.kernels.cuda.language import cuda, load4


def column_of(c, tile, low, high):
    """The column of a weight that is number c of those owned."""
    own = high - low
    return c // own * tile + low + c % own if own > 0 else 0


def keep_columns(p, at, row, turned, k, n, tile, low, high, weights, kept):
    """Copy the columns of a parameter: lanes walk along its rows, which are columns of the weight if it is turned."""
    lane, warp, warps = cuda.threadIdx.x % 32, cuda.threadIdx.x // 32, cuda.blockDim.x // 32
    own = high - low
    columns = n // tile * own
    to = kept - low
    for first in range(0, n, tile):
        if turned:
            for j in range(low + warp, high, warps):
                for kk in range(lane, k, 32):
                    weights[to + kk * columns + j] = p[at + (first + j) * row + kk]
        else:
            for kk in range(warp, k, warps):
                for j in range(low + lane, high, 32):
                    weights[to + kk * columns + j] = p[at + kk * row + first + j]
        to += own


def step_product(x, x_at, x_row, count, k, weights, kept, columns, width, splits, c, q, to, tile, low, high,
                 shared, staged, partial, chunk, z, z_at, z_row, add):  # fmt: skip
    """z[m] (+)= x[m] W in the columns owned, for ``count`` rows m, of which M at most are done.

    Thread (q, c) adds up column c over every ``splits``-th row of W, from q on, for all M members; then the threads of
    a column add their parts, always in the same order.
    """
    tid, threads = cuda.threadIdx.x, cuda.blockDim.x
    sums = cuda.local.array(M, T)
    base = 0
    while base < columns:
        for m in range(M):
            sums[m] = ZERO
        active = q < splits and base + c < columns
        start = 0
        while start < k:
            size = min(chunk, k - start)
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
            start += chunk
        if active:
            for m in range(M):
                shared[partial + (q * M + m) * width + c] = sums[m]
        cuda.syncthreads()
        if active:
            column = to if base == 0 else column_of(base + c, tile, low, high)
            m = q
            while m < count:
                total = z[z_at + m * z_row + column] if add else ZERO
                for r in range(splits):
                    total += shared[partial + (r * M + m) * width + c]
                z[z_at + m * z_row + column] = total
                m += splits
        base += width


def member_product(x, x_at, k, memory, at, over_k, over_n, n, z, z_at, add):
    """z[n] (+)= x times column n of one member's matrix."""
    total = z[z_at + n] if add else ZERO
    for kk in range(k):
        total += x[x_at + kk] * memory[at + kk * over_k + n * over_n]
    z[z_at + n] = total
