"""Floor 2, CPU: the matrix product C = A B for any strides, batched, on all cores.

B is packed into panels of two vectors' width, so that the micro-kernel reads it in order; A is read where it
lies; k is cut so that a panel stays in the first cache, and the rows of A so that a chunk of them stays in the
second while all panels pass (Goto and van de Geijn 2008). Rows are cut evenly into blocks of at most
``block_rows()``, each with its own micro-kernel, and the last vector of a row is masked: no size needs padding.
Where B is much larger than A (one step of a recurrent network), C^T = B^T A^T is computed instead, so that the
small operand is the one packed, and C^T is turned round.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.errors import ShapeError, describe
from minigrad.kernels.cpu import micro, parallel, shares
from minigrad.kernels.cpu.build import emit, load

_TEXT = '''
from numba import carray, types
from minigrad.kernels.cpu.compile import address, body, kernel_for
from minigrad.kernels.cpu.micro import micro_kernel, pointer_to, transpose_block

L, KC, CHUNK = {lanes}, {kc}, {chunk}   # lanes, and the most k and rows at once
{constants}
W = WIDTH
A2, A3 = (types.Array(types.{dtype}, n, "A", readonly=True) for n in (2, 3))     # read only, any strides
C1, C2, C3 = (types.Array(types.{dtype}, n, "C") for n in (1, 2, 3))
R1, R2 = (types.Array(types.{dtype}, n, "C", readonly=True) for n in (1, 2))
TABLE = types.Array(types.int64, 1, "C")
pointer = pointer_to("{dtype}")
transpose = transpose_block("{dtype}")
{kernels}


@inline
def wide_rows(rows, a, a_row, a_col, b, k, c, c_row, add, last, ahead, step):
{wide}

@inline
def narrow_rows(rows, a, a_row, a_col, b, k, c, c_row, add, last, ahead, step):
{narrow}

@inline
def pack_columns(source, b_k, k0, k1, columns, width, to):
    """Columns lie side by side (stride 1): copy rows k0..k1 of one panel."""
    s, d = pointer(source), pointer(to)
    for k in range(k0, k1):
        for j in range(columns):
            d[k * width + j] = s[k * b_k + j]
        for j in range(columns, width):
            d[k * width + j] = ZERO


@inline
def pack_rows(source, b_k, b_n, k0, k1, columns, width, to):
    """Any strides; blocks are turned round in registers where k lies side by side."""
    s, d = pointer(source), pointer(to)
    k = k0
    while k < k1:
        n = min(L, k1 - k)
        j = 0
        while b_k == 1 and n == L and columns - j >= L:
            transpose(source + SIZE * (j * b_n + k), b_n, to + SIZE * (k * width + j), width)
            j += L
        for jj in range(j, columns):
            for kk in range(k, k + n):
                d[kk * width + jj] = s[jj * b_n + kk * b_k]
        for jj in range(columns, width):
            for kk in range(k, k + n):
                d[kk * width + jj] = ZERO
        k += n


@inline
def pack(b, b_k, b_n, k, n, to, worker, workers):
    """One worker's share of the panels of B[k, n]: panels where there are enough of them, else rows."""
    panels = (n + W - 1) // W
    p0, p1, k0, k1 = 0, panels, 0, k
    if panels >= workers:
        p0, p1 = panels * worker // workers, panels * (worker + 1) // workers
    else:
        k0, k1 = k * worker // workers, k * (worker + 1) // workers
    for p in range(p0, p1):
        columns = min(W, n - W * p)
        width = W if columns > L else L
        source, panel = b + SIZE * W * p * b_n, to + SIZE * W * p * k
        if b_n == 1:
            pack_columns(source, b_k, k0, k1, columns, width, panel)
        else:
            pack_rows(source, b_k, b_n, k0, k1, columns, width, panel)


@address(8)
def pack_panels(b, b_k, b_n, k, n, to, worker, workers):
    """``pack`` for other kernels, which call it by its address."""
    pack(b, b_k, b_n, k, n, to, worker, workers)


@address(12)
def rows(m, a, a_row, a_col, k, panels, n, p0, p1, c, c_row, add):
    """C[m, panels p0..p1] = A[m, k] times packed panels, += with ``add``; other kernels call it by its address."""
    if m == 0:
        return
    chunks = (m + CHUNK - 1) // CHUNK
    cuts = (k + KC - 1) // KC
    for cut in range(cuts):
        k0, k1 = k * cut // cuts, k * (cut + 1) // cuts
        steps, more = k1 - k0, cut + add
        for chunk in range(chunks):
            m0, m1 = m * chunk // chunks, m * (chunk + 1) // chunks
            blocks = (m1 - m0 + ROWS - 1) // ROWS
            for p in range(p0, p1):
                columns = min(W, n - W * p)
                width = W if columns > L else L
                b = panels + SIZE * (W * p * k + k0 * width)
                ahead = b + SIZE * W * k
                step = SIZE * W // blocks
                row = m0
                for block in range(blocks):
                    height = m0 + (m1 - m0) * (block + 1) // blocks - row
                    at_a, at_c = a + SIZE * (row * a_row + k0 * a_col), c + SIZE * (row * c_row + W * p)
                    if columns > L:
                        wide_rows(height, at_a, a_row, a_col, b, steps, at_c, c_row, more, columns - L, ahead, step)
                    else:
                        narrow_rows(height, at_a, a_row, a_col, b, steps, at_c, c_row, more, columns, ahead, step)
                    row += height
                    ahead += steps * step


@body
def gemm(table, phase, worker, workers):
    t = carray(address_as_int64(table), (20,))
    a, a_row, a_col, a_batch, b, b_k, b_n, b_batch = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
    c, c_row, c_batch, m, k, n = t[8], t[9], t[10], t[11], t[12], t[13]
    batches, scratch, room, add = t[14], t[15], t[16], t[17]
    first, last, to, w, share = 0, 1, scratch, worker, workers
    if batches > 1:                                      # whole products for each worker
        first, last = batches * worker // workers, batches * (worker + 1) // workers
        to, w, share = scratch + SIZE * room * worker, 0, 1
    for i in range(first, last):
        if (phase == 0 and not t[19]) or batches > 1:
            pack(b + SIZE * i * b_batch, b_k, b_n, k, n, to, w, share)
        if phase == 1 or batches > 1:
            at_a, at_c = a + SIZE * i * a_batch, c + SIZE * i * c_batch
            product(t[18], m, at_a, a_row, a_col, k, to, n, at_c, c_row, add, w, share)


@inline
def strides(x, first):
    return x.strides[first] // SIZE, x.strides[first + 1] // SIZE


@kernel_for(types.void(A2, A2, C2, C1, *[types.int64] * 4))
def serial(a, b, c, scratch, gemm, rows, add, packed):
    """C = or += A B for matrices, on this thread; B lies in ``scratch`` already if it is ``packed``."""
    t = np.empty(20, np.int64)
    t[0], t[4], t[8], t[15] = a.ctypes.data, b.ctypes.data, c.ctypes.data, scratch.ctypes.data
    (t[1], t[2]), (t[5], t[6]), (t[9], _) = strides(a, 0), strides(b, 0), strides(c, 0)
    t[11], t[12], t[13], t[14] = a.shape[0], a.shape[1], b.shape[1], 1
    t[17], t[18], t[19] = add, rows, packed
    for phase in range(2):
        call4(gemm, (t.ctypes.data, phase, 0, 1))


@kernel_for(types.int64(A2))
def address_of(x):
    return x.ctypes.data


@kernel_for(types.int64(A3, A3, C3, C1, TABLE, *[types.int64] * 4))
def fill(a, b, c, scratch, t, workers, rows, add, packed):
    """The table of ``gemm`` for A (batches, m, k), B (batches, k, n), C (batches, m, n)."""
    t[0], t[4], t[8], t[15] = a.ctypes.data, b.ctypes.data, c.ctypes.data, scratch.ctypes.data
    t[3], t[7], t[10] = a.strides[0] // SIZE, b.strides[0] // SIZE, c.strides[0] // SIZE
    (t[1], t[2]), (t[5], t[6]), (t[9], _) = strides(a, 1), strides(b, 1), strides(c, 1)
    t[11], t[12], t[13], t[14], t[16] = a.shape[1], a.shape[2], b.shape[2], a.shape[0], scratch.size // workers
    t[17], t[18], t[19] = add, rows, packed
    return t.ctypes.data


@kernel_for(types.void(C2, C2))
def turn(source, to):
    """to[j, i] = source[i, j], both C-contiguous."""
    m, n = source.shape
    for i in range(0, m, L):
        for j in range(0, n, L):
            if m - i >= L and n - j >= L:
                transpose(source.ctypes.data + SIZE * (i * n + j), n, to.ctypes.data + SIZE * (j * m + i), m)
            else:
                for ii in range(i, min(m, i + L)):
                    for jj in range(j, min(n, j + L)):
                        to[jj, ii] = source[ii, jj]


@kernel_for(types.void(R2, R1, C1))
def dot_rows(w, x, out):
    """out[i] = w[i, :] . x, rows of w side by side."""
    for i in range(w.shape[0]):
        row = w[i]
        s = ZERO
        for k in range(x.size):
            s = fast_add(s, row[k] * x[k])
        out[i] = s


@kernel_for(types.void(R2, R1, C1))
def add_rows(w, x, out):
    """out = x @ w, adding up the rows of w."""
    for j in range(out.size):
        out[j] = ZERO
    for k in range(x.size):
        row, value = w[k], x[k]
        for j in range(out.size):
            out[j] += value * row[j]
'''


def _choose(name: str, rows: int, vectors: int) -> str:
    """A chain of ifs that takes the micro-kernel for the number of rows."""
    lines = []
    for m in range(rows, 0, -1):
        lines.append(f"    {'if' if m == rows else 'elif'} rows == {m}:")
        lines.append(f"        m{m}x{vectors}(a, a_row, a_col, b, k, c, c_row, add, last, ahead, step)")
    return "\n".join(lines) + "\n"


def constants(dtype: np.dtype) -> str:
    """What a kernel that multiplies must know of this dtype, as text."""
    rows, width = micro.block_rows(), 2 * micro.lanes(dtype.name)
    return (
        f"SIZE, WIDTH, ROWS = {dtype.itemsize}, {width}, {rows}"
        "   # bytes of a number, columns of a panel, rows of a register block"
    )


_CHUNK = 240  # rows: with 1280 bytes of k they fill 300 KiB. 120 to 480 are alike; without, long A^T B lose a fifth


class Gemm:
    """The compiled product of one dtype."""

    def __init__(self, dtype: np.dtype):
        name, size = dtype.name, dtype.itemsize
        rows, lanes = micro.block_rows(), micro.lanes(name)
        kernels = "\n".join(f'm{m}x{v} = micro_kernel({m}, {v}, "{name}")' for v in (2, 1) for m in range(1, rows + 1))
        text = _TEXT.format(lanes=lanes, constants=constants(dtype), kc=1280 // size, chunk=_CHUNK, dtype=name,
                            kernels=kernels, wide=_choose("wide", rows, 2),
                            narrow=_choose("narrow", rows, 1))  # fmt: skip
        title = f"Matrix product, {name}, vectors of {micro.vector_bits()} bits"
        needed: list[Any] = [micro.address_as_int64, micro.call4, micro.fast_add, shares.product]
        module = load(f"gemm_{name}", emit(title, text, needed, dtype))
        self.width, self.body, self.rows = 2 * lanes, module.gemm.address, module.rows.address
        self.pack_panels = module.pack_panels.address
        self._module = module

    def __getattr__(self, name: str) -> Any:
        """serial, fill, turn, address_of, dot_rows, add_rows: compiled, or loaded, when first asked for."""
        kernel = getattr(self._module, name)()
        setattr(self, name, kernel)
        return kernel

    def scratch(self, k: int, n: int, dtype: np.dtype) -> np.ndarray:
        """Room for B[k, n] in panels."""
        return np.empty(k * (-(-n // self.width) * self.width), dtype)


_GEMM: dict[np.dtype, Gemm] = {}


def kernels(dtype: np.dtype) -> Gemm:
    """The compiled product of a dtype. For kernels that call its parts: ``rows`` and ``pack_panels`` are addresses,
    ``address_of`` tells where a matrix lies, ``width`` columns are in a panel."""
    found = _GEMM.get(dtype)
    if found is None:
        found = _GEMM[dtype] = Gemm(dtype)
    return found


_SERIAL = 1_000_000  # multiply-adds below which one thread is faster (tests/benchmarks/bench_matmul.py)


class Factor:
    """A matrix B that is the right factor of several products: the first of them packs it for the others."""

    def __init__(self, b: np.ndarray):
        self.matrix = b
        self.panels: np.ndarray | None = None


def _matrices(a: np.ndarray, b: np.ndarray, c: np.ndarray, add: bool = False, kept: Factor | None = None) -> None:
    """C = A B for two matrices; += with ``add``; ``kept`` is B where its panels are kept."""
    k, n = b.shape
    g = kernels(c.dtype)
    packed = kept is not None and kept.panels is not None
    scratch = kept.panels if packed else g.scratch(k, n, c.dtype)
    if kept is not None:
        kept.panels = scratch
    if c.size * k > _SERIAL and parallel.workers() > 1:
        _batches(a[None], b[None], c[None], parallel.workers(), 2, scratch, add, packed)
    else:
        g.serial(a, b, c, scratch, g.body, g.rows, add, packed)


def _batches(a: np.ndarray, b: np.ndarray, c: np.ndarray, workers: int, phases: int, scratch: np.ndarray,
             add: bool = False, packed: bool = False) -> None:  # fmt: skip
    """C = A B for (batches, m, k), (batches, k, n) and (batches, m, n)."""
    g, arguments = kernels(c.dtype), np.empty(20, np.int64)
    parallel.run(g.body, g.fill(a, b, c, scratch, arguments, workers, g.rows, add, packed), phases, workers)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A B for (..., m, k) and (..., k, n) with equal leading sizes."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    batch = a.shape[:-2]
    c: Any = np.empty((*batch, m, n), a.dtype)
    if k == 0 or c.size == 0:
        c[...] = 0
    elif batch:
        a, b, c3 = a.reshape(-1, m, k), b.reshape(-1, k, n), c.reshape(-1, m, n)
        if len(a) == 1:
            _matrices(a[0], b[0], c3[0])
        else:
            workers = parallel.workers() if c.size * k > _SERIAL else 1
            _batches(a, b, c3, workers, 1, kernels(c.dtype).scratch(workers * k, n, c.dtype))
    elif m == 1 or n == 1:
        _vector(a, b, c)
    elif k * m + m * n < k * n and m * k * n > 8192:  # pack the smaller operand
        turned = np.empty((n, m), a.dtype)
        _matrices(b.T, a.T, turned)
        kernels(c.dtype).turn(turned, c)
    else:
        _matrices(a, b, c)
    return c


def product_into(c: np.ndarray, a: np.ndarray, b: np.ndarray | Factor, add: bool = False) -> None:
    """C (m, n), C-contiguous, = or += A (m, k) B (k, n) of any strides."""
    if a.shape[1] == 0 or c.size == 0:
        if not add:
            c[...] = 0
    elif isinstance(b, Factor):
        _matrices(a, b.matrix, c, add, b)
    else:
        _matrices(a, b, c, add)


def _vector(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """A product with one row or one column."""
    g = kernels(c.dtype)
    w, x = (b, a[0]) if a.shape[0] == 1 else (a.T, b[:, 0])  # out = x @ w
    if w.flags.c_contiguous:
        g.add_rows(w, np.ascontiguousarray(x), c.ravel())
    else:
        g.dot_rows(np.ascontiguousarray(w.T), np.ascontiguousarray(x), c.ravel())


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """NumPy's ``a @ b``: vectors, matrices, and batches whose leading sizes broadcast."""
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ShapeError(describe("matmul", f"{a.shape} @ {b.shape}", "(..., m, k) @ (..., k, n) with one k"))
    x = a[None] if a.ndim == 1 else a
    y = b[:, None] if b.ndim == 1 else b
    if x.ndim == 2 and y.ndim == 2:
        c = product(x, y)
    elif y.ndim == 2:  # many rows times one matrix
        c = product(x.reshape(-1, x.shape[-1]), y).reshape(*x.shape[:-1], y.shape[-1])
    else:
        try:
            batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        except ValueError:
            got = f"{a.shape} @ {b.shape}"
            raise ShapeError(describe("matmul", got, "leading sizes that broadcast")) from None
        c = product(np.broadcast_to(x, batch + x.shape[-2:]), np.broadcast_to(y, batch + y.shape[-2:]))
    if a.ndim == 1:
        c = c[..., 0, :]
    return c[..., 0] if b.ndim == 1 else c
