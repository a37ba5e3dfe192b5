"""Floor 2, CPU: from plain Python functions to machine code, by way of a file to open (``kernels/source.py``).

The files live in ``config.cache_dir``, where Numba keeps the machine code beside them. If the folder cannot be written,
a kernel is compiled in memory.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numba
import numpy as np

from minigrad.kernels import source
from minigrad.kernels.source import load

_HEAD = '''"""{title}

Written by minigrad (kernels/cpu/build.py); named by the hash of this text.
"""
import math
import numpy as np
from minigrad.kernels.cpu.compile import inline, kernel
'''

_FLOAT32 = """
T = np_float = np.float32
ZERO, HALF, ONE, TWO, INF, NAN = T(0), T(0.5), T(1), T(2), T(np.inf), T(np.nan)
LOG2_E, LN2_HI, LN2_LO = T(1.4426950408889634), T(0.693359375), T(-2.12194440e-4)
EXP_MIN, EXP_MAX, EXPM1_MIN, INVERSE_MAX = T(-104), T(89), T(-25), T(126)
SMALLEST, SHIFT, TWO_TO_SHIFT = T(1.1754944e-38), T(24), T(16777216)

@inline
def pow2(n):
    return np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)

@inline
def exponent(x):
    return (T(x).view(np.int32) - np.int32(0x3F3504F3)) >> np.int32(23)

@inline
def mantissa(x, e):
    return np.int32(T(x).view(np.int32) - (np.int32(e) << np.int32(23))).view(np.float32)
"""

_FLOAT64 = """
T = np_float = np.float64
ZERO, HALF, ONE, TWO, INF, NAN = T(0), T(0.5), T(1), T(2), T(np.inf), T(np.nan)
LOG2_E, LN2_HI, LN2_LO = T(1.4426950408889634), T(6.93147180369123816490e-01), T(1.90821492927058770002e-10)
EXP_MIN, EXP_MAX, EXPM1_MIN, INVERSE_MAX = T(-746), T(710), T(-50), T(1022)
SMALLEST, SHIFT, TWO_TO_SHIFT = T(2.2250738585072014e-308), T(54), T(18014398509481984)

@inline
def pow2(n):
    return np.int64((np.int64(n) + np.int64(1023)) << np.int64(52)).view(np.float64)

@inline
def exponent(x):
    return (T(x).view(np.int64) - np.int64(0x3FE6A09E667F3BCD)) >> np.int64(52)

@inline
def mantissa(x, e):
    return np.int64(T(x).view(np.int64) - (np.int64(e) << np.int64(52))).view(np.float64)
"""


def _series(name: str, coefficients: Iterable[float]) -> str:
    """A polynomial by Horner's rule, unrolled: c0 + x (c1 + x (c2 + ...))."""
    *rest, last = [f"T({c!r})" for c in coefficients]
    body = last
    for c in reversed(rest):
        body = f"{c} + x * ({body})"
    return f"\n@inline\ndef {name}(x):\n    return {body}\n"


@lru_cache
def _prelude(dtype: np.dtype) -> str:
    single = dtype == np.float32
    taylor, f = [], 1.0
    for k in range(2, 8 if single else 14):  # 1/2! + r/3! + ... : e^r = 1 + r + r^2 (this)
        f *= k
        taylor.append(1.0 / f)
    atanh = [1.0 / (2 * k + 1) for k in range(1, 6 if single else 11)]  # 1/3 + z/5 + z^2/7 + ...
    if dtype.kind != "f":
        return f"\nT = np.{dtype.name if dtype.kind == 'i' else 'bool_'}\n"
    return (_FLOAT32 if single else _FLOAT64) + _series("exp_series", taylor) + _series("log_series", atanh)


def _named(x: Any) -> Any:
    """Functions of ``math`` become primitives where there are such."""
    if isinstance(x, types.BuiltinFunctionType):
        from minigrad.kernels.cpu import primitives

        return getattr(primitives, x.__name__, f"from math import {x.__name__}")
    if isinstance(x, numba.core.extending._Intrinsic):
        module = sys.modules[x._defn.__module__]
        stamp = hashlib.sha256(inspect.getsource(module).encode()).hexdigest()[:12]
        return f"from {module.__name__} import {x._name}  # text {stamp}"
    return x if isinstance(x, types.FunctionType) else None


TARGET = source.Target(_HEAD, _prelude, _named)


def emit(title: str, text: str, functions: Iterable[Callable], dtype: np.dtype) -> str:
    return source.emit(TARGET, title, text, functions, dtype)


def build(name: str, text: str, functions: Iterable[Callable], dtype: np.dtype, title: str = "") -> Callable:
    """Compile ``text``, which defines ``run``, and return it."""
    return load(f"{name}_{np.dtype(dtype).name}", emit(title or name, text, functions, dtype)).run


class Kernel:
    """A plain Python function of arrays, compiled for a dtype when it is first asked for: ``kernel[dtype](...)``.

    ``constants`` are values of some of its parameters which the compiler then knows: it unrolls loops over them.
    """

    def __init__(self, function: Callable, **constants: int):
        self.function, self.constants = function, constants
        self._compiled: dict[np.dtype, Callable] = {}

    def __getitem__(self, dtype: np.dtype) -> Callable:
        run = self._compiled.get(dtype)
        if run is None:
            f, constants = self.function, self.constants
            name = "_".join([f.__name__, *map(str, constants.values())])
            run = self._compiled[dtype] = build(
                name, source.as_kernel(f, constants), source.called_by(TARGET, f), dtype
            )
        return run
