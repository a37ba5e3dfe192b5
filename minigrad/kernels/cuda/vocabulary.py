"""Floor 2, CUDA: what the words of ``language.py`` mean on a GPU: ``numba.cuda`` and instructions as LLVM code.

Generated kernel files import from here. With ``compile.py`` this is all that knows numba-cuda, which is in maintenance:
its successor would change these two files.
"""

# mypy: ignore-errors

from __future__ import annotations

from math import copysign, cos, erf, exp, expm1, fabs, log, log1p, sin, sqrt  # noqa: F401

import numpy as np
from llvmlite import ir
from numba import types

from minigrad.kernels.cuda.compile import cgutils, cuda, intrinsic, signature
from minigrad.kernels.cuda.language import INSTRUCTIONS, Instruction

_TYPES = {"f4": types.float32, "f8": types.float64, "i4": types.int32, "u4": types.uint32, "u8": types.uint64}
_LLVM = {"f4": ir.FloatType(), "f8": ir.DoubleType(), "i4": ir.IntType(32), "u4": ir.IntType(32), "u8": ir.IntType(64)}
_REGISTER = {"f4": "f", "f8": "d", "i4": "r", "u4": "r", "u8": "l"}

inline = cuda.jit(device=True)


def kernel(function):
    """``compile.py`` takes the plain function."""
    return function


def _instruction(x: Instruction):
    """An intrinsic that is one PTX instruction; several results come as a tuple. A warp may have to run it as one
    (mma.sync), so the compiler must not take it to where only some of the lanes pass: it is convergent."""
    takes = [_TYPES[t] for t in x.takes]
    if len(x.gives) > 1:
        gives = types.UniTuple(_TYPES[x.gives[0]], len(x.gives))
        result = ir.LiteralStructType([_LLVM[t] for t in x.gives])
    else:
        gives, result = (_TYPES[x.gives[0]], _LLVM[x.gives[0]]) if x.gives else (types.void, ir.VoidType())
    constraints = ["=" + _REGISTER[t] for t in x.gives] + [_REGISTER[t] for t in x.takes]
    constraints += ["~{memory}"] if x.ordered else []

    def generate(context, builder, found, values):
        values = [context.cast(builder, v, a, b) for v, a, b in zip(values, found.args, takes)]
        type_ = ir.FunctionType(result, [_LLVM[t] for t in x.takes])
        asm = ir.InlineAsm(type_, x.asm, ",".join(constraints), side_effect=x.ordered)
        out = builder.call(asm, values, attrs=("convergent",))
        if not x.gives:
            return context.get_dummy_value()
        if len(x.gives) == 1:
            return out
        parts = [builder.extract_value(out, i) for i in range(len(x.gives))]
        return context.make_tuple(builder, found.return_type, parts)

    arguments = ", ".join(f"a{i}" for i in range(len(takes)))
    names = {"signature": signature, "gives": gives, "takes": takes, "generate": generate}
    exec(f"def {x.name}(context, {arguments}):\n    return signature(gives, *takes), generate\n", names)
    return intrinsic(names[x.name])


globals().update({name: _instruction(x) for name, x in INSTRUCTIONS.items()})


def _pointer(context, builder, kind, base, index):
    """LLVM pointer to an element of a pointer or of a shared or local array."""
    if isinstance(kind, types.CPointer):
        return builder.gep(base, [index])
    array = context.make_array(kind)(context, builder, value=base)
    return cgutils.get_item_pointer(context, builder, kind, array, [index], wraparound=False)


def _place(context, builder, found, args):
    index = context.cast(builder, args[1], found.args[1], types.intp)
    return _pointer(context, builder, found.args[0], args[0], index)


@intrinsic
def address(context, p, i):
    def generate(context, builder, found, args):
        return builder.ptrtoint(_place(context, builder, found, args), ir.IntType(64))

    return signature(types.uint64, p, i), generate


@intrinsic
def shared_address(context, p, i):
    def generate(context, builder, found, args):
        where = builder.ptrtoint(_place(context, builder, found, args), ir.IntType(64))
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(64)])
        asm = "{ .reg .u64 t; cvta.to.shared.u64 t, $1; cvt.u32.u64 $0, t; }"
        return builder.call(ir.InlineAsm(kind, asm, "=r,l"), [where])

    return signature(types.uint32, p, i), generate


def _vectors(n):
    """Load and store of n neighbours at once."""

    @intrinsic
    def load(context, p, i):
        def generate(context, builder, found, args):
            where, element = _place(context, builder, found, args), context.get_value_type(p.dtype)
            vector = builder.bitcast(where, ir.PointerType(ir.VectorType(element, n), where.type.addrspace))
            value = builder.load(vector, align=n * p.dtype.bitwidth // 8)
            parts = [builder.extract_element(value, ir.Constant(ir.IntType(32), k)) for k in range(n)]
            return context.make_tuple(builder, found.return_type, parts)

        return signature(types.UniTuple(p.dtype, n), p, i), generate

    @intrinsic
    def store(context, p, i, values):
        def generate(context, builder, found, args):
            where, element = _place(context, builder, found, args), context.get_value_type(p.dtype)
            value = ir.Constant(ir.VectorType(element, n), ir.Undefined)
            parts = cgutils.unpack_tuple(builder, args[2], n)
            for k, (part, kind) in enumerate(zip(parts, found.args[2])):
                part = context.cast(builder, part, kind, p.dtype)
                value = builder.insert_element(value, part, ir.Constant(ir.IntType(32), k))
            vector = builder.bitcast(where, ir.PointerType(value.type, where.type.addrspace))
            builder.store(value, vector, align=n * p.dtype.bitwidth // 8)
            return context.get_dummy_value()

        return signature(types.void, p, i, values), generate

    return load, store


load4, store4 = _vectors(4)
load2, store2 = _vectors(2)


@inline
def group_barrier(counters, group, blocks, target):
    """What the threads of a block wrote before, every thread of the group reads afterwards."""
    cuda.syncthreads()
    if cuda.threadIdx.x == 0 and cuda.threadIdx.y == 0 and cuda.threadIdx.z == 0:
        add_release(address(counters, group), 1)  # noqa: F821
        while load_acquire(address(counters, group)) < np.uint32(target):  # noqa: F821
            pass
    cuda.syncthreads()


@inline
def grid_barrier(counter, target):
    group_barrier(counter, 0, 0, target)
