"""Floor 2, CPU: from plain Python functions to machine code, by way of a file that you can open.

``build(name, text, functions, dtype)`` writes one self-contained Python file with everything that a
kernel needs: the prelude of the dtype, the scalar functions that it calls (with their float literals
typed, so that float32 stays float32), and the loops. The file is named by the hash of its own text and
lives in ``config.cache_dir``, where Numba caches the machine code beside it. So an edited scalar function
is another file, and a stale kernel cannot be run. If the folder cannot be written, the kernel is compiled
in memory.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import linecache
import os
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from pathlib import Path

import numba
import numpy as np

from minigrad.config import config

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


class _TypedLiterals(ast.NodeTransformer):
    """``2.0`` becomes ``T(2.0)``: a float literal has the dtype of the kernel. Annotations go."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, float):
            return ast.Call(ast.Name("T", ast.Load()), [node], [])
        return node


@cache
def _parse(function: types.FunctionType) -> tuple[str, frozenset[str]]:
    """Source of a function with typed literals, and the names that it reads."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = frozenset(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    return ast.unparse(_TypedLiterals().visit(tree)), names


def _collect(function: Callable, seen: dict[str, str], imports: set[str]) -> None:
    """Texts of a function and of those that it calls, callees first; names of ``math`` become primitives."""
    from minigrad.kernels.cpu import primitives

    if isinstance(function, types.BuiltinFunctionType):
        name = function.__name__
        if not hasattr(primitives, name):
            imports.add(f"from math import {name}")
            return
        function = getattr(primitives, name)
    if isinstance(function, numba.core.extending._Intrinsic):
        module = sys.modules[function._defn.__module__]
        stamp = hashlib.sha256(inspect.getsource(module).encode()).hexdigest()[:12]
        imports.add(f"from {module.__name__} import {function._name}  # text {stamp}")
        return
    text, _ = _parse(function)
    if seen.get(function.__name__, text) != text:
        raise ValueError(f"[kernel] two functions are called '{function.__name__}'; rename one")
    if function.__name__ in seen:
        return
    for callee in _called_by(function):
        _collect(callee, seen, imports)
    seen[function.__name__] = text


def emit(title: str, text: str, functions: Iterable[Callable], dtype: np.dtype) -> str:
    """The text of a kernel file: prelude, the functions needed, then ``text``."""
    seen: dict[str, str] = {}
    imports: set[str] = set()
    for f in functions:
        _collect(f, seen, imports)
    parts = [_HEAD.format(title=title), *(f"{line}\n" for line in sorted(imports)), _prelude(np.dtype(dtype))]
    parts += [f"\n@inline\n{body}\n" for body in seen.values()]
    return "".join(parts) + "\n" + text


_LOADING = threading.RLock()  # a module is known by its name before its kernels are compiled


def load(name: str, text: str) -> types.ModuleType:
    """Import ``text`` from a file of its own, named by its hash."""
    with _LOADING:
        return _load(name, text)


def _load(name: str, text: str) -> types.ModuleType:
    stem = f"{name}_{hashlib.sha256((text + numba.__version__).encode()).hexdigest()[:16]}"
    if stem in sys.modules:
        return sys.modules[stem]
    path = _write(stem, text)
    if path is None:
        filename = f"<{stem}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
        module = types.ModuleType(stem)
        module.__file__ = filename
        exec(compile(text, filename, "exec"), module.__dict__)
    else:
        spec = importlib.util.spec_from_file_location(stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[stem] = module
        spec.loader.exec_module(module)
    sys.modules[stem] = module
    return module


def _write(stem: str, text: str) -> Path | None:
    """The kernel's file, written if it is not there; None where nothing can be written."""
    if not config.cache_dir:
        return None
    path = Path(config.cache_dir) / f"{stem}.py"
    try:
        if path.exists() and path.read_text() == text:
            return path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(text)
        temporary.replace(path)
        return path
    except OSError:
        return None


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
            run = self._compiled[dtype] = build(name, _as_kernel(f, constants), _called_by(f), dtype)
        return run


def _as_kernel(function: types.FunctionType, constants: dict[str, int]) -> str:
    """The text of a function as the kernel ``run``. A wrapper around the function would cost it what is known of its
    arrays, that they do not overlap: it would be optimised before it is inlined (three times slower where measured)."""
    tree = ast.parse(_parse(function)[0])
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.name, definition.decorator_list = "run", [ast.Name("kernel", ast.Load())]
    definition.args.args = [a for a in definition.args.args if a.arg not in constants]
    return "".join(f"{name} = {value}\n" for name, value in constants.items()) + "\n" + ast.unparse(tree) + "\n"


def _called_by(function: types.FunctionType) -> list[Callable]:
    """The functions that a function's text names."""
    found = [function.__globals__.get(name) for name in sorted(_parse(function)[1] - {function.__name__})]
    return [
        f
        for f in found
        if isinstance(f, (types.FunctionType, types.BuiltinFunctionType, numba.core.extending._Intrinsic))
    ]
