"""Floor 2, CUDA: sums and maxima along axes, and running sums.

Every reduction is one of a contiguous array seen as (a, r, b) over its middle axis, as on the CPU. Where the results
are too few to keep the device busy, r is cut into parts, whose results are reduced once more. The order of additions
depends on shapes alone, so two runs agree to the last bit; it is that of a tree, so the error of a sum grows with the
additions of one thread and not with r. All kernels are limited by the bytes that they read.
"""

# mypy: disable-error-code="no-untyped-def, name-defined"
# ruff: noqa: F821

from __future__ import annotations

from minigrad.kernels.cuda import move
from minigrad.kernels.cuda.device import Array, Device
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda, load4
from minigrad.kernels.cuda.loops import LIMIT, divider
from minigrad.kernels.loops import reductions

SHORT = 16  # numbers that one thread takes alone
WARP = 1024  # that one warp takes
SERIAL = 512  # at most that one thread adds up one after another
STEPS = 8  # at least that are worth another block


def join(x, y, largest):
    """x + y, or the larger one; NaN wins, as in NumPy."""
    if largest:
        return y if y > x or y != y else x
    return x + y


def join_warp(x, largest):
    """Of the 32 lanes of a warp; every lane gets it."""
    for d in range(5):
        x = join(x, cuda.shfl_xor_sync(0xFFFFFFFF, x, 16 >> d), largest)
    return x


def join_block(x, parts, largest):
    """Of the threads of a block, by way of ``parts``, shared memory for a number of each warp; every thread gets it."""
    x = join_warp(x, largest)
    if cuda.threadIdx.x % 32 == 0:
        parts[cuda.threadIdx.x // 32] = x
    cuda.syncthreads()
    x = parts[0]
    for w in range(1, cuda.blockDim.x // 32):
        x = join(x, parts[w], largest)
    return x


def few_kernel(x, out, n, r, b, factor, shift, largest):
    """out (n,) = x (a, r, b) reduced, n = a b: a thread for each result. Neighbours read neighbours (b > 1) or lines
    that neighbours need, too (b = 1, r short). ``factor`` and ``shift`` divide by b (``divider``)."""
    o = cuda.grid(1)
    if o < n:
        at = o + (o * factor >> shift) * (r - 1) * b
        y0 = x[at] if largest else T(0)
        y1, y2, y3 = y0, y0, y0
        j = 0
        while j + 4 <= r:
            y0 = join(y0, x[at], largest)
            y1 = join(y1, x[at + b], largest)
            y2 = join(y2, x[at + 2 * b], largest)
            y3 = join(y3, x[at + 3 * b], largest)
            at += 4 * b
            j += 4
        while j < r:
            y0 = join(y0, x[at], largest)
            at += b
            j += 1
        out[o] = join(join(y0, y1, largest), join(y2, y3, largest), largest)


def warp_kernel(x, out, n, r, largest):
    """out (n,) = x (n, r) reduced: a warp for each row."""
    row, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    if row < n:
        at, end = row * r + lane, (row + 1) * r
        y0 = x[row * r] if largest else T(0)
        y1, y2, y3 = y0, y0, y0
        while at + 96 < end:
            y0 = join(y0, x[at], largest)
            y1 = join(y1, x[at + 32], largest)
            y2 = join(y2, x[at + 64], largest)
            y3 = join(y3, x[at + 96], largest)
            at += 128
        while at < end:
            y0 = join(y0, x[at], largest)
            at += 32
        y0 = join_warp(join(join(y0, y1, largest), join(y2, y3, largest), largest), largest)
        if lane == 0:
            out[row] = y0


def block_kernel(x, out, r, parts, length, largest, wide):
    """out (n, parts) = x (n, r) reduced in parts of ``length``: a block for each part. Wide: parts start at multiples
    of four and are read in fours, four of these under way."""
    shared = cuda.shared.array(32, T)
    row, part = cuda.blockIdx.x // parts, cuda.blockIdx.x % parts
    first = row * r + part * length
    end = min(first + length, (row + 1) * r)
    y0 = x[first] if largest else T(0)
    y1, y2, y3 = y0, y0, y0
    at = first + cuda.threadIdx.x
    if wide:
        step = 4 * cuda.blockDim.x
        at = first + 4 * cuda.threadIdx.x
        while at + 3 * step + 4 <= end:
            p, q, s, t = load4(x, at), load4(x, at + step), load4(x, at + 2 * step), load4(x, at + 3 * step)
            y0 = join(y0, join(join(p[0], q[0], largest), join(s[0], t[0], largest), largest), largest)
            y1 = join(y1, join(join(p[1], q[1], largest), join(s[1], t[1], largest), largest), largest)
            y2 = join(y2, join(join(p[2], q[2], largest), join(s[2], t[2], largest), largest), largest)
            y3 = join(y3, join(join(p[3], q[3], largest), join(s[3], t[3], largest), largest), largest)
            at += 4 * step
        while at + 4 <= end:
            p = load4(x, at)
            y0 = join(y0, p[0], largest)
            y1 = join(y1, p[1], largest)
            y2 = join(y2, p[2], largest)
            y3 = join(y3, p[3], largest)
            at += step
        at = end - (end - first) % 4 + cuda.threadIdx.x
    step = cuda.blockDim.x
    while at + 3 * step < end:
        y0 = join(y0, x[at], largest)
        y1 = join(y1, x[at + step], largest)
        y2 = join(y2, x[at + 2 * step], largest)
        y3 = join(y3, x[at + 3 * step], largest)
        at += 4 * step
    while at < end:
        y0 = join(y0, x[at], largest)
        at += step
    y0 = join_block(join(join(y0, y1, largest), join(y2, y3, largest), largest), shared, largest)
    if cuda.threadIdx.x == 0:
        out[cuda.blockIdx.x] = y0


def columns_kernel(x, out, r, b, width, tiles, parts, length, largest):
    """out (a, parts, b) = x (a, r, b) reduced in parts of ``length`` rows: a block for each part of ``width`` columns,
    its threads, 256 at most, side by side on as many rows as they can hold; their results meet in shared memory."""
    shared = cuda.shared.array(256, T)
    tile, part = cuda.blockIdx.x % tiles, cuda.blockIdx.x // tiles % parts
    i = cuda.blockIdx.x // (tiles * parts)
    t = cuda.threadIdx.x
    lanes, lane, k = cuda.blockDim.x // width, t // width, tile * width + t % width
    live = lane < lanes and k < b
    first, step = part * length, lanes * b
    end = (i * r + min(first + length, r)) * b
    at = (i * r + first + lane) * b + k
    y0 = x[(i * r + first) * b + k] if largest and live else T(0)
    y1, y2, y3 = y0, y0, y0
    if live:
        while at + 3 * step < end:
            y0 = join(y0, x[at], largest)
            y1 = join(y1, x[at + step], largest)
            y2 = join(y2, x[at + 2 * step], largest)
            y3 = join(y3, x[at + 3 * step], largest)
            at += 4 * step
        while at < end:
            y0 = join(y0, x[at], largest)
            at += step
    shared[t] = join(join(y0, y1, largest), join(y2, y3, largest), largest)
    cuda.syncthreads()
    while lanes > 1:
        half = (lanes + 1) // 2
        if lane < lanes - half:
            shared[t] = join(shared[t], shared[t + half * width], largest)
        cuda.syncthreads()
        lanes = half
    if t < width and k < b:
        out[(i * parts + part) * b + k] = shared[t]


_NAMES = {"sum": 0, "max": 1}
_FEW = [Kernel(few_kernel, "T* T* i8 i8 i8 i8 i8", largest=m) for m in (0, 1)]
_WARP = [Kernel(warp_kernel, "T* T* i8 i8", largest=m) for m in (0, 1)]
_BLOCK = [
    [Kernel(block_kernel, "T* T* i8 i8 i8", largest=m, wide=w, promises=("LDG.E.128",) * w) for w in (0, 1)]
    for m in (0, 1)
]
_COLUMNS = [Kernel(columns_kernel, "T* T* i8 i8 i8 i8 i8 i8", largest=m) for m in (0, 1)]


def _parts(device: Device, blocks: int, r: int, lanes: int) -> tuple[int, int]:
    """How many parts r is cut into, and their length, where ``lanes`` numbers of r are taken side by side."""
    busy = min(-(-r // (lanes * STEPS)), -(-4 * device.multiprocessors // blocks))
    parts = max(busy, -(-r // (lanes * SERIAL)))
    length = -(-r // parts)
    length += -length % 4
    return -(-r // length), length


def middle(device: Device, name: str, x: Array, a: int, r: int, b: int) -> Array:
    """The reduction of contiguous x, seen as (a, r, b), as a flat array (a b,)."""
    largest, dtype = _NAMES[name], x.dtype
    full = 4 * device.threads * device.multiprocessors
    if a * b < LIMIT and (r <= SHORT or (b >= 32 and a * b >= full and r <= SERIAL)):
        out = device.empty((a * b,), dtype)
        device.launch(_FEW[largest], dtype, -(-a * b // device.threads), x, out, a * b, r, b, *divider(b))
        return out
    if b == 1 and r <= WARP:
        out = device.empty((a,), dtype)
        device.launch(_WARP[largest], dtype, -(-32 * a // device.threads), x, out, a, r)
        return out
    if b == 1:
        parts, length = _parts(device, a, r, 4 * device.threads)
        out = device.empty((a * parts,), dtype)
        wide = (a == 1 or r % 4 == 0) and x.offset % (4 * dtype.itemsize) == 0
        device.launch(_BLOCK[largest][wide], dtype, a * parts, x, out, r, parts, length)
    else:
        width = min(b, 32)
        tiles, lanes = -(-b // width), device.threads // width
        parts, length = _parts(device, a * tiles, r, lanes)
        out = device.empty((a * parts * b,), dtype)
        device.launch(_COLUMNS[largest], dtype, a * tiles * parts, x, out, r, b, width, tiles, parts, length)
    return out if parts == 1 else middle(device, name, out, a, parts, b)


def reduce(device: Device, name: str, x: Array, axes: tuple[int, ...]) -> Array:
    """``name`` ("sum", "max") over sorted, non-negative ``axes``, which stay with size 1."""
    if not x.contiguous:
        order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
        if x.transpose(order).contiguous:  # another order of axes
            turned = reduce(device, name, x.transpose(order), tuple(sorted(order.index(axis) for axis in axes)))
            return turned.transpose([order.index(axis) for axis in range(x.ndim)])
    shape = tuple([1 if i in axes else n for i, n in enumerate(x.shape)])
    if not x.size:
        return move.full(device, shape, 0, x.dtype)
    parts, x = reductions(x.shape, axes), move.contiguous(device, x)
    for _, folded in parts:
        x = middle(device, name, x, *folded)
    return move.reshape(device, x, shape)


# ------------------------------------------------------------------------------------------------ running sums


def scan_kernel(x, out, totals, rows, r, parts, length):
    """out (rows, r) = running sums of x in each of ``parts`` of ``length``, and their ``totals`` (rows, parts): a warp
    for each part, 128 numbers at a time."""
    w, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    if w < rows * parts:
        first = w // parts * r + w % parts * length
        end = min(first + length, (w // parts + 1) * r)
        total = T(0)
        while first < end:
            at = first + 4 * lane
            y0 = x[at] if at < end else T(0)
            y1 = x[at + 1] if at + 1 < end else T(0)
            y2 = x[at + 2] if at + 2 < end else T(0)
            y3 = x[at + 3] if at + 3 < end else T(0)
            y1 += y0
            y2 += y1
            y3 += y2
            before = y3  # of the lanes up to this one
            for d in range(5):
                other = cuda.shfl_up_sync(0xFFFFFFFF, before, 1 << d)
                if lane >= 1 << d:
                    before += other
            whole = cuda.shfl_sync(0xFFFFFFFF, before, 31)
            before = cuda.shfl_up_sync(0xFFFFFFFF, before, 1)
            before = total + before if lane > 0 else total
            if at < end:
                out[at] = before + y0
            if at + 1 < end:
                out[at + 1] = before + y1
            if at + 2 < end:
                out[at + 2] = before + y2
            if at + 3 < end:
                out[at + 3] = before + y3
            total += whole
            first += 128
        if lane == 0:
            totals[w] = total


def shift_kernel(out, totals, parts, r, length):
    """Add to each part but the first of a row the running sum of the ``totals`` before it: a block for each part."""
    part = cuda.blockIdx.x % parts
    if part > 0:
        before = totals[cuda.blockIdx.x - 1]
        row = cuda.blockIdx.x // parts
        i, end = row * r + part * length + cuda.threadIdx.x, row * r + min((part + 1) * length, r)
        while i < end:
            out[i] += before
            i += cuda.blockDim.x


_SCAN, _SHIFT = Kernel(scan_kernel, "T* T* T* i8 i8 i8 i8"), Kernel(shift_kernel, "T* T* i8 i8 i8")
PART = 1024  # numbers of a row that a warp takes


def cumsum(device: Device, x: Array, axis: int) -> Array:
    """Running sum along a non-negative axis; the result has it last in memory."""
    order = [*[a for a in range(x.ndim) if a != axis], axis]
    x = move.contiguous(device, x.transpose(order))
    out = device.empty(x.shape, x.dtype)
    if x.size:
        r = x.shape[-1]
        rows, parts = x.size // r, -(-r // PART)
        totals = device.empty((rows, parts), x.dtype)
        device.launch(_SCAN, x.dtype, -(-32 * rows * parts // device.threads), x, out, totals, rows, r, parts, PART)
        if parts > 1:
            device.launch(_SHIFT, x.dtype, rows * parts, out, cumsum(device, totals, 1), parts, r, PART)
    return out.transpose([order.index(a) for a in range(x.ndim)])
