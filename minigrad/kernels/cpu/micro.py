"""Floor 2, CPU: the few instructions that Numba cannot express, as LLVM vector code through intrinsics.

``micro_kernel`` is the inside of the matrix product: a block of C, a few rows by a few vectors, stays in
registers while one pass over k multiplies a column of A with a row of a packed panel of B
(Goto and van de Geijn 2008). ``transpose_block`` turns a square block round in registers. ``fast_add`` and
``fast_max`` are single operations that alone may be reordered, so that a reduction vectorises while the code
around it keeps its order of evaluation.
"""

# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from minigrad.config import config

I1, I8, I32, I64 = (ir.IntType(n) for n in (1, 8, 32, 64))
_ELEMENT = {"float32": ir.FloatType(), "float64": ir.DoubleType()}


@lru_cache
def vector_bits() -> int:
    """Width of the vectors that the matrix kernel uses: the host's, or the flag's."""
    if config.vector_bits:
        return config.vector_bits
    features = binding.get_host_cpu_features()
    return 512 if features.get("avx512f") else 256 if features.get("avx2") else 128


def lanes(dtype: str) -> int:
    return vector_bits() // (32 if dtype == "float32" else 64)


def block_rows() -> int:
    """Rows of a register block: 2 vectors a row must leave room for a row of B in 16 or 32 registers."""
    return 6 if vector_bits() == 256 or (vector_bits() == 128 and "x86" in binding.get_process_triple()) else 10


def _function(module: ir.Module, name: str, ret: ir.Type, args: list[ir.Type]) -> ir.Function:
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(ret, args), name)


def _splat(b: ir.IRBuilder, value: ir.Value, n: int) -> ir.Value:
    one = b.insert_element(ir.Constant(ir.VectorType(value.type, n), ir.Undefined), value, I32(0))
    return b.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, n), [0] * n))


@cache
def micro_kernel(rows: int, vectors: int, dtype: str) -> Callable:
    """C[rows, vectors*L] = or += A[rows, k] B[k, vectors*L], B packed, L lanes.

    Arguments, all int64: addresses and element strides ``a, a_row, a_col, b, k, c, c_row``; ``add`` (0: =,
    1: +=); ``last``, the columns of C that exist in its last vector; ``ahead``, an address fetched into the
    cache on the way, ``ahead_step`` bytes for each k.
    """
    element, n = _ELEMENT[dtype], lanes(dtype)
    bits = 32 if dtype == "float32" else 64
    vector, mask_type = ir.VectorType(element, n), ir.VectorType(I1, n)
    suffix = f"v{n}f{bits}"

    def codegen(context, b, signature, args):
        a, a_row, a_col, panel, k, c, c_row, add, last, ahead, ahead_step = args
        pointer = element.as_pointer()
        A, B, C = (b.inttoptr(v, pointer) for v in (a, panel, c))
        fma = _function(b.module, f"llvm.fma.{suffix}", vector, [vector] * 3)
        load_masked = _function(b.module, f"llvm.masked.load.{suffix}.p0", vector,
                                [vector.as_pointer(), I32, mask_type, vector])  # fmt: skip
        store_masked = _function(b.module, f"llvm.masked.store.{suffix}.p0", ir.VoidType(),
                                 [vector, vector.as_pointer(), I32, mask_type])  # fmt: skip
        prefetch = _function(b.module, "llvm.prefetch.p0", ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
        zero = ir.Constant(vector, [0.0] * n)
        lane = ir.Constant(ir.VectorType(I64, n), list(range(n)))
        mask = b.icmp_signed("<", lane, _splat(b, last, n))
        blocks = [(i, j) for i in range(rows) for j in range(vectors)]

        def at_c(i, j):
            offset = b.add(b.mul(c_row, I64(i)), I64(j * n))
            return b.bitcast(b.gep(C, [offset]), vector.as_pointer())

        def load_c(i, j):
            if j < vectors - 1:
                return b.load(at_c(i, j), align=bits // 8)
            return b.call(load_masked, [at_c(i, j), I32(bits // 8), mask, zero])

        a_rows = [b.gep(A, [b.mul(a_row, I64(i))]) for i in range(rows)]
        entry = b.block
        read, loop, done = (b.append_basic_block(name) for name in ("read_c", "loop", "done"))
        b.cbranch(b.icmp_signed("!=", add, I64(0)), read, loop)

        b.position_at_end(read)
        start = [load_c(i, j) for i, j in blocks]
        b.branch(loop)

        b.position_at_end(loop)
        step = b.phi(I64)
        sums = [b.phi(vector) for _ in blocks]
        step.add_incoming(I64(0), entry)
        step.add_incoming(I64(0), read)
        for s, value in zip(sums, start):
            s.add_incoming(zero, entry)
            s.add_incoming(value, read)
        b_offset = b.mul(step, I64(vectors * n))
        row = [b.load(b.bitcast(b.gep(B, [b.add(b_offset, I64(j * n))]), vector.as_pointer()), align=bits // 8)
               for j in range(vectors)]  # fmt: skip
        fetch = b.add(ahead, b.mul(step, ahead_step))
        for j in range(vectors):
            at = b.inttoptr(b.add(fetch, I64(64 * j)), I8.as_pointer())
            b.call(prefetch, [at, I32(0), I32(3), I32(1)])
        a_offset = b.mul(step, a_col)
        new = []
        for i in range(rows):
            value = _splat(b, b.load(b.gep(a_rows[i], [a_offset])), n)
            new += [b.call(fma, [value, row[j], sums[i * vectors + j]]) for j in range(vectors)]
        following = b.add(step, I64(1))
        step.add_incoming(following, loop)
        for s, value in zip(sums, new):
            s.add_incoming(value, loop)
        b.cbranch(b.icmp_signed("<", following, k), loop, done)

        b.position_at_end(done)
        for (i, j), value in zip(blocks, new):
            if j < vectors - 1:
                b.store(value, at_c(i, j), align=bits // 8)
            else:
                b.call(store_masked, [value, at_c(i, j), I32(bits // 8), mask])
        return context.get_dummy_value()

    @intrinsic
    def micro(typingctx, a, a_row, a_col, b, k, c, c_row, add, last, ahead, ahead_step):
        return types.void(*[types.int64] * 11), codegen

    return micro


@cache
def transpose_block(dtype: str) -> Callable:
    """to[j, i] = from[i, j] for an L x L block; addresses and row strides in elements."""
    element, n = _ELEMENT[dtype], lanes(dtype)
    vector, shuffle = ir.VectorType(element, n), ir.VectorType(I32, n)
    align = 4 if dtype == "float32" else 8

    def codegen(context, b, signature, args):
        source, source_row, to, to_row = args
        S, D = b.inttoptr(source, element.as_pointer()), b.inttoptr(to, element.as_pointer())
        at = lambda base, row, i: b.bitcast(b.gep(base, [b.mul(row, I64(i))]), vector.as_pointer())
        v = [b.load(at(S, source_row, i), align=align) for i in range(n)]
        half = n // 2
        while half:  # swap the off-diagonal half x half blocks, then halve
            low = ir.Constant(shuffle, [k if not k & half else n + (k ^ half) for k in range(n)])
            high = ir.Constant(shuffle, [(k | half) if not k & half else n + k for k in range(n)])
            w = list(v)
            for i in range(n):
                if not i & half:
                    w[i] = b.shuffle_vector(v[i], v[i | half], low)
                    w[i | half] = b.shuffle_vector(v[i], v[i | half], high)
            v, half = w, half // 2
        for i in range(n):
            b.store(v[i], at(D, to_row, i), align=align)
        return context.get_dummy_value()

    @intrinsic
    def transpose(typingctx, source, source_row, to, to_row):
        return types.void(*[types.int64] * 4), codegen

    return transpose


@intrinsic
def fast_add(typingctx, x, y):
    """x + y, which alone may be reordered: a sum vectorises, x - mean elsewhere does not change."""

    def codegen(context, b, signature, args):
        return b.fadd(*args, flags=("reassoc", "nsz", "contract"))

    return x(x, y), codegen


@intrinsic
def fast_mul(typingctx, x, y):
    """x y, which alone may be reordered."""

    def codegen(context, b, signature, args):
        return b.fmul(*args, flags=("reassoc", "nsz", "contract"))

    return x(x, y), codegen


@intrinsic
def prefetch(typingctx, address):
    """Ask for the cache line at an address (int64), which is to be read soon."""

    def codegen(context, b, signature, args):
        ask = _function(b.module, "llvm.prefetch.p0", ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
        b.call(ask, [b.inttoptr(args[0], I8.as_pointer()), I32(0), I32(3), I32(1)])
        return context.get_dummy_value()

    return types.void(address), codegen


@intrinsic
def fast_max(typingctx, x, y):
    """The larger of two numbers, of which NaN is none: a maximum vectorises."""

    def codegen(context, b, signature, args):
        flags = ("nnan", "nsz")
        return b.select(b.fcmp_ordered(">", *args, flags=flags), *args, flags=flags)

    return x(x, y), codegen


def _caller(count: int) -> Callable:
    def codegen(context, b, signature, values):
        target = ir.FunctionType(ir.VoidType(), [I64] * count)
        address = b.inttoptr(values[0], target.as_pointer())
        b.call(address, [b.extract_value(values[1], i) for i in range(count)])
        return context.get_dummy_value()

    return lambda function, args: (types.void(types.int64, types.UniTuple(types.int64, count)), codegen)


@intrinsic
def call4(typingctx, function, args):
    """``call4(address, (p, q, r, s))``: a compiled function of four int64 by its address."""
    return _caller(4)(function, args)


@intrinsic
def call8(typingctx, function, args):
    """A compiled function of eight int64 by its address."""
    return _caller(8)(function, args)


@intrinsic
def call12(typingctx, function, args):
    """A compiled function of twelve int64 by its address."""
    return _caller(12)(function, args)


@intrinsic
def address_as_int64(typingctx, address):
    """An address as an array of int64: ``carray(address_as_int64(p), n)``."""

    def codegen(context, b, signature, args):
        return b.inttoptr(args[0], I64.as_pointer())

    return types.CPointer(types.int64)(types.int64), codegen


@cache
def pointer_to(dtype: str) -> Callable:
    """An address as a pointer to elements of ``dtype``."""
    kind = getattr(types, dtype)

    @intrinsic
    def pointer(typingctx, address):
        def codegen(context, b, signature, args):
            return b.inttoptr(args[0], _ELEMENT[dtype].as_pointer())

        return types.CPointer(kind)(types.int64), codegen

    return pointer
