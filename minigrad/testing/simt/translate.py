"""Floor 6: a kernel with the emulator's meaning of the names that it uses.

The function is not changed: a copy of it gets its own global names, in which ``cuda`` is that of the emulator, device
functions are plain ones, types convert as machine integers do, and intrinsics are their models.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterator
from functools import cache
from types import CellType, CodeType, FunctionType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from minigrad.kernels.cuda.language import Instruction, Word
from minigrad.testing.simt.here import cuda
from minigrad.testing.simt.memory import wrap
from minigrad.testing.simt.models import MODELS, PAUSING


class Translated(NamedTuple):
    """``codes``: of the kernel and of all functions that it calls; ``pauses``: one may have to wait for others."""

    name: str
    function: Callable
    codes: frozenset[CodeType]
    pauses: bool


class Whole(int):
    """An integer of so many bits: conversion wraps, as a machine's does. What is computed with it is a Python integer,
    as it is one of 64 bits for Numba."""

    dtype: np.dtype

    def __new__(cls, x: Any = 0) -> Whole:
        return int.__new__(cls, wrap(x, cls.dtype))


def _unsigned64(x: Any = 0) -> np.uint64:
    return np.uint64(wrap(x, np.dtype(np.uint64)))


_unsigned64.dtype = np.dtype(np.uint64)  # type: ignore[attr-defined]
_TYPES: dict[str, Any] = {
    n: type(n, (Whole,), {"dtype": np.dtype(n)})
    for n in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
}
_TYPES.update(
    {"uint64": _unsigned64, "uintp": _unsigned64, "intp": _TYPES["int64"], "boolean": np.bool_, "bool": np.bool_}
)
_TYPES.update({n: getattr(np, n) for n in ("float16", "float32", "float64")})
_BY_CLASS = {getattr(np, n): _TYPES[n] for n in _TYPES if n[-1].isdigit()}
_LATE = ("threadIdx", "blockIdx", "blockDim", "gridDim")


class _Late:
    """``threadIdx`` where a kernel has imported it by name: that of the thread which runs."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, axis: str) -> int:
        return getattr(getattr(cuda, self._name), axis)


def translate(kernel: Any) -> Translated:
    function = _plain(kernel)
    if function is None:
        raise TypeError(f"a kernel is a function or what @cuda.jit makes of one, not {type(kernel).__name__}")
    done: dict[int, Any] = {}
    found = _function(function, done)
    codes = frozenset(c for f in done.values() for c in _codes(f.__code__))
    names = {n for c in codes for n in (*c.co_names, *c.co_freevars)}
    return Translated(function.__name__, found, codes, not names.isdisjoint(PAUSING))


def _plain(x: Any) -> FunctionType | None:
    """The Python function of a kernel or device function."""
    x = getattr(x, "py_func", x)
    return x if isinstance(x, FunctionType) else None


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for c in code.co_consts:
        if isinstance(c, CodeType):
            yield from _codes(c)


def _function(f: FunctionType, done: dict[int, Any]) -> FunctionType:
    if id(f) in done:
        return done[id(f)]
    names: dict[str, Any] = {"__builtins__": builtins, "__name__": f.__module__}
    cells = tuple(CellType() for _ in f.__closure__ or ())
    found = done[id(f)] = FunctionType(f.__code__, names, f.__name__, f.__defaults__, cells)
    for name in {n for c in _codes(f.__code__) for n in c.co_names}:
        if name in f.__globals__:
            names[name] = _meaning(f.__globals__[name], name, done)
    for new, old, name in zip(cells, f.__closure__ or (), f.__code__.co_freevars):
        new.cell_contents = _meaning(old.cell_contents, name, done)
    return found


def _meaning(x: Any, name: str, done: dict[int, Any]) -> Any:
    """What stands for x in the emulator."""
    from minigrad.testing.simt import vocabulary

    if isinstance(x, (Word, Instruction)):
        return getattr(vocabulary, x.name)
    if isinstance(x, ModuleType):
        return _module(x)
    if any(str(m).startswith("numba") for m in (type(x).__module__, getattr(x, "__module__", ""))):
        plain = _plain(x)
        if plain is not None and not plain.__module__.startswith("numba"):
            return _function(plain, done)
        return _of_numba(getattr(x, "__name__", None) or getattr(x, "_name", None) or str(x), name)
    if isinstance(x, type):
        return _BY_CLASS.get(x, x)
    if isinstance(x, FunctionType):
        return x if x.__module__.startswith("minigrad.testing.simt") else _function(x, done)
    if callable(x) and getattr(math, getattr(x, "__name__", ""), None) is x:
        return getattr(vocabulary, x.__name__, None) or _of_math()[x.__name__]
    return x


def _of_numba(own: str, name: str) -> Any:
    from minigrad.testing.simt import vocabulary

    if own in _LATE or name in _LATE:
        return _Late(own if own in _LATE else name)
    for place in (_TYPES, MODELS, vars(vocabulary), vars(cuda)):
        if own in place:
            return place[own]

    def missing(*args: Any) -> Any:
        raise NotImplementedError(
            f"no model of '{own}': give one with @simt.model({own!r}) or @simt.collective({own!r})"
        )

    return missing


@cache
def _of_math() -> dict[str, Any]:
    """``math``, of numbers of NumPy in their own dtype; outside of a domain NaN or Inf, as on a GPU."""
    from minigrad.testing.simt import vocabulary

    def of(f: Callable) -> Callable:
        def run(*args: Any) -> Any:
            kind = next((type(a) for a in args if isinstance(a, np.floating)), float)
            try:
                return kind(f(*args)) if not isinstance(f(*args), (bool, tuple)) else f(*args)
            except ValueError:
                return kind(np.nan)
            except OverflowError:
                return kind(np.inf)

        return run

    found = {n: of(f) if callable(f) else f for n, f in vars(math).items() if not n.startswith("_")}
    whole = {n: getattr(math, n) for n in ("floor", "ceil", "trunc", "gcd")}
    return {**found, **whole, **{n: getattr(vocabulary, n) for n in found if hasattr(vocabulary, n)}}


@cache
def _module(x: ModuleType) -> Any:
    from minigrad.testing.simt import vocabulary

    name = x.__name__
    if name == "numpy":
        return SimpleNamespace(**{**vars(np), **_TYPES})
    if name == "math":
        return SimpleNamespace(**_of_math())
    if name.endswith("numba.cuda"):
        return vocabulary.cuda
    if name.endswith("libdevice"):
        return vocabulary.libdevice
    if name == "numba":
        return SimpleNamespace(cuda=vocabulary.cuda, **_TYPES)
    return x
