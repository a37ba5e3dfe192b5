"""Floor 2, CUDA: a kernel: a plain Python function (or generated text), and the types that it takes."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from minigrad.kernels import source
from minigrad.kernels.cuda.language import Instruction, Word

_HEAD = '''"""{title}

Written by minigrad (kernels/cuda/kernel.py); named by the hash of this text.
"""
import numpy as np
from VOCABULARY import cuda, inline, kernel
'''


def _prelude(dtype: np.dtype) -> str:
    name = dtype.name if dtype.kind != "b" else "uint8"
    limits = "ZERO, ONE, INF, NAN = T(0), T(1), T(np.inf), T(np.nan)\n" if dtype.kind == "f" else ""
    return f"\nT = np.{name}\n{limits}"


def _target(vocabulary: str) -> source.Target:
    def named(x: Any) -> Any:
        if isinstance(x, types.BuiltinFunctionType):
            return f"from {vocabulary} import {x.__name__}"
        if isinstance(x, (Word, Instruction)):
            return None if x.name == "cuda" else f"from {vocabulary} import {x.name}"
        return x if isinstance(x, types.FunctionType) else None

    return source.Target(_HEAD.replace("VOCABULARY", vocabulary), _prelude, named)


class File(NamedTuple):
    """The text of a kernel for one dtype: defines ``run``; its ``stem`` has the hash of the text."""

    stem: str
    text: str
    takes: tuple[str, ...]


KERNELS: list[Kernel] = []  # those of hand-written functions, for tests to go through


class Kernel:
    """A kernel for every dtype.

    function:      of flat pointers and numbers; or generated ``text`` that defines ``run`` and calls ``parts``
    takes:         types of the arguments: "T*" a pointer to the kernel's dtype, "T" a number of it; "i8*", "u1*" (also
                   of a bool), "f8*", ... pointers to others; "i8" a whole number
    threads:       of a block; 0 where the kernel works with any number
    dtypes:        for which it makes sense
    promises:      machine instructions that its code must have for dtypes of four bytes or more, ("LDG.E.128",)
    constants:     values of some parameters which the compiler then knows
    meant_f64:     (found) whether a float32 kernel may have float64 instructions: it is given float64 numbers
    """

    def __init__(self, function: Callable | None, takes: str, *, threads: int = 0, name: str = "", text: str = "",
                 parts: Iterable[Any] = (), dtypes: Iterable[str] = ("float32", "float64"),
                 max_registers: int | None = None, promises: Iterable[str] = (), **constants: int):  # fmt: skip
        self.function, self.takes, self.threads, self.constants = function, takes.split(), threads, constants
        self.name = name or "_".join([function.__name__, *map(str, constants.values())])  # type: ignore[union-attr]
        self.text, self.parts, self.dtypes, self.max_registers = text, tuple(parts), tuple(dtypes), max_registers
        self.promises, self.meant_f64 = tuple(promises), "f8*" in self.takes
        self._files: dict[tuple[np.dtype, str], File] = {}
        if function is not None:
            KERNELS.append(self)

    def file(self, dtype: np.dtype, vocabulary: str = "minigrad.kernels.cuda.vocabulary") -> File:
        """The text for a dtype, whose words come from the module ``vocabulary``."""
        found = self._files.get((dtype, vocabulary))
        if found is None:
            target = _target(vocabulary)
            text, parts = self.text, self.parts
            if self.function is not None:
                text = source.as_kernel(self.function, self.constants)
                parts = tuple(source.called_by(target, self.function))
            text = source.emit(target, f"{self.name}, {dtype.name}", text, parts, dtype)
            stem = f"{self.name}_{dtype.name}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
            own = "u1" if dtype.kind == "b" else f"{dtype.kind}{dtype.itemsize}"
            found = self._files[dtype, vocabulary] = File(stem, text, tuple(t.replace("T", own) for t in self.takes))
        return found
