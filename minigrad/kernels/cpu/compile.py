"""Floor 2, CPU: the decorators of a generated kernel file.

``noalias`` tells LLVM that array arguments do not overlap, which every kernel here guarantees (outputs are
fresh); without it, loops over many arrays run 3 to 12 times slower. It is Numba's internal flag, so Numba is
pinned in ``pyproject.toml`` and a test checks that it takes effect. ``contract`` allows multiply-add to be
one instruction; nothing else of fastmath is on, so NaN and Inf keep their meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import cfunc, njit, types
from numba.core.compiler import Compiler


class NoAlias(Compiler):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        flags = self.state.flags.copy()
        flags.noalias = True
        self.state.flags = flags


_OPTIONS = {"error_model": "numpy", "fastmath": {"contract"}, "nogil": True}
_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_OPTIONS}  # no way in from outside, which takes time


def inline(function: Callable) -> Callable:
    return njit(forceinline=True, **_INNER)(function)


def unit(function: Callable) -> Callable:
    """A function of arrays that do not overlap, called by another kernel."""
    return njit(pipeline_class=NoAlias, **_INNER)(function)


def _cached(function: Callable, **options: Any) -> Any:
    try:
        return njit(cache=True, **options, **_OPTIONS)(function)
    except RuntimeError:  # Numba found no folder to keep the machine code in
        return njit(**options, **_OPTIONS)(function)


def kernel(function: Callable) -> Callable:
    """Compiled when first called, for the types of that call."""
    return _cached(function, pipeline_class=NoAlias)


def kernel_for(signature: Any) -> Callable:
    """A kernel for one signature, arrays of any layout. The decorated function takes no arguments: it compiles, and
    returns the machine code without Numba's look at every argument."""
    return lambda function: partial(_cached(function, pipeline_class=NoAlias).compile, signature.args)


def parallel_kernel(function: Callable) -> Callable:
    return _cached(function, parallel=True)


def address(arguments: int) -> Callable:
    """A function of so many int64, known by its ``address``."""
    signature = types.void(*[types.int64] * arguments)
    options = {"nopython": True, "error_model": "numpy", "fastmath": {"contract"}}

    def compiled(function: Callable) -> Callable:
        try:
            return cfunc(signature, cache=True, **options)(function)
        except RuntimeError:
            return cfunc(signature, **options)(function)

    return compiled


body = address(4)  # body(table, phase, worker, workers), see parallel.py
