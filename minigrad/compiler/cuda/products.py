"""Floor 4: products with the weights inside of a kernel that runs all steps.

A block owns some columns of each weight: of every ``tile`` columns those from ``low`` to ``high``. It keeps them side
by side, four rows of a column together, W[4 r + e, c] at ``kept + 4 (r columns + c) + e``: a lane reads them at once,
and lanes read neighbours. Rows behind the last are 0.
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
    columns, rows = n // tile * (high - low), (k + 3) // 4 * 4
    c = 0
    for first in range(0, n, tile):
        if turned:
            for j in range(low + warp, high, warps):
                for kk in range(lane, rows, 32):
                    at_kept = kept + 4 * (kk // 4 * columns + c + j - low) + kk % 4
                    weights[at_kept] = p[at + (first + j) * row + kk] if kk < k else ZERO
        else:
            for kk in range(warp, rows, warps):
                for j in range(low + lane, high, 32):
                    at_kept = kept + 4 * (kk // 4 * columns + c + j - low) + kk % 4
                    weights[at_kept] = p[at + kk * row + first + j] if kk < k else ZERO
        c += high - low


def step_product(x, x_at, x_row, count, k, weights, kept, columns, width, splits, c, q, to, tile, low, high,
                 shared, staged, partial, chunk, z, z_at, z_row, add):  # fmt: skip
    """z[m] (+)= x[m] W in the columns owned, for ``count`` rows m, M at most; ``chunk`` rows of W at a time.

    Thread (q, c) adds up column c over every ``splits``-th four rows of W, from the q-th on, for all M members; then
    the threads of a column add their parts, always in the same order. What lies in global memory is asked for ahead.
    """
    tid, threads = cuda.threadIdx.x, cuda.blockDim.x
    sums, before, ahead = cuda.local.array(M, T), cuda.local.array(M, T), cuda.local.array(AHEAD, T)
    base = 0
    while base < columns:
        active = q < splits and base + c < columns
        column = to if base == 0 else column_of(base + c, tile, low, high)
        for u in range(M):
            sums[u] = ZERO
            m = q + u * splits
            before[u] = z[z_at + m * z_row + column] if add and active and m < count else ZERO
        for u in range(AHEAD):
            i = tid + u * threads
            m, kk = i % M, i // M
            ahead[u] = x[x_at + m * x_row + kk] if m < count and kk < k else ZERO
        start = 0
        while start < k:
            if start > 0:
                cuda.syncthreads()
            for u in range(AHEAD):  # x, turned: members are neighbours
                i = tid + u * threads
                if i < chunk * M:
                    shared[staged + i] = ahead[u]
            cuda.syncthreads()
            for u in range(AHEAD):
                i = tid + u * threads
                m, kk = i % M, start + chunk + i // M
                ahead[u] = x[x_at + m * x_row + kk] if m < count and kk < k else ZERO
            rows = (min(chunk, k - start) + 3) // 4 if active else 0
            r = q
            while r < rows:
                w0, w1, w2, w3 = load4(weights, kept + 4 * ((start // 4 + r) * columns + base + c))
                for m in range(0, M, 4):
                    at = staged + 4 * r * M + m
                    a0, a1, a2, a3 = load4(shared, at)
                    b0, b1, b2, b3 = load4(shared, at + M)
                    c0, c1, c2, c3 = load4(shared, at + 2 * M)
                    d0, d1, d2, d3 = load4(shared, at + 3 * M)
                    sums[m] += a0 * w0 + b0 * w1 + c0 * w2 + d0 * w3
                    sums[m + 1] += a1 * w0 + b1 * w1 + c1 * w2 + d1 * w3
                    sums[m + 2] += a2 * w0 + b2 * w1 + c2 * w2 + d2 * w3
                    sums[m + 3] += a3 * w0 + b3 * w1 + c3 * w2 + d3 * w3
                r += splits
            start += chunk
        if active:
            for m in range(M):
                shared[partial + (q * M + m) * width + c] = sums[m]
        cuda.syncthreads()
        for u in range(M):
            m = q + u * splits
            if active and m < count:
                total = before[u]
                for r in range(splits):
                    total += shared[partial + (r * M + m) * width + c]
                z[z_at + m * z_row + column] = total
        base += width


def member_product(x, x_at, k, memory, at, over_k, over_n, n, z, z_at, add):
    """z[n] (+)= x times column n of one member's matrix."""
    total = z[z_at + n] if add else ZERO
    for kk in range(k):
        total += x[x_at + kk] * memory[at + kk * over_k + n * over_n]
    z[z_at + n] = total
