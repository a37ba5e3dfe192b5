"""Floor 2, CPU: one scalar function over arrays that broadcast.

Sizes are folded to at most three loops; each operand walks them with its own strides (0 where it is
broadcast). Along the innermost loop an operand either moves by one element (``v``) or stands still (``s``);
one variant is compiled for each such pattern that occurs, so the loop always vectorises.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import from_dtype, types

from minigrad.kernels.abstract import broadcast_shapes
from minigrad.kernels.cpu.build import build
from minigrad.kernels.loops import check_dtypes, fold, row_major, spread

empty = np.empty


class Loops(NamedTuple):
    """How to walk operands of some shapes: sizes and strides in elements."""

    shape: tuple[int, ...]  # of the result
    sizes: tuple[int, int, int]
    strides: tuple[tuple[int, int], ...]  # of the two outer loops, for each operand
    pattern: str


@lru_cache(maxsize=4096)
def plan(where: str, *shapes: tuple[int, ...]) -> Loops | None:
    """Fold the sizes of C-contiguous operands; None if more than three loops remain."""
    shape = broadcast_shapes(where, *shapes)
    sizes, strides = fold(shape, [spread(s, row_major(s), len(shape)) for s in shapes])
    if len(sizes) > 3:
        return None
    missing = [0] * (3 - len(sizes))
    sizes, strides = [1] * len(missing) + sizes, [missing + s for s in strides]
    pattern = "".join("v" if s[2] else "s" for s in strides)
    return Loops(shape, (sizes[0], sizes[1], sizes[2]), tuple((s[0], s[1]) for s in strides), pattern)


def loops_source(call: str, pattern: str) -> str:
    """Text of the loops around ``call``, an expression in x0, x1, ..."""
    n = range(len(pattern))
    args = ", ".join(f"a{i}, r{i}, s{i}" for i in n)
    values = {f"x{i}": (f"x{i}[k]" if p == "v" else f"x{i}") for i, p in enumerate(pattern)}
    lines = ["@kernel", f"def run(n0, n1, n2, {args}, out):", "    for i in range(n0):", "        for j in range(n1):"]
    for i, p in enumerate(pattern):
        at = f"i * r{i} + j * s{i}"
        lines.append(f"            x{i} = a{i}[{at}:{at} + n2]" if p == "v" else f"            x{i} = a{i}[{at}]")
    lines.append("            y = out[(i * n1 + j) * n2:(i * n1 + j + 1) * n2]")
    lines.append("            for k in range(n2):")
    lines.append(f"                y[k] = {call.format(**values)}")
    return "\n".join(lines) + "\n"


class Elementwise:
    """A function of arrays made from a plain function of floats.

    name:   what errors and kernel files call it
    parts:  the scalar function; or, with ``text``, the functions that the text calls
    text:   of a function ``name`` that chains ``parts`` (a fused gradient rule)
    arity:  number of operands; the last one decides the dtype
    out:    dtype of the result, if not that of the operands ("bool" for comparisons)
    floats: whether only float32 and float64 are taken
    condition: whether the first operand is a bool
    """

    def __init__(self, name: str, parts: tuple[Callable, ...], arity: int, *, text: str = "", out: str = "",
                 floats: bool = True, condition: bool = False):  # fmt: skip
        self.name, self.parts, self.arity, self.text = name, parts, arity, text
        self.out, self.floats, self.condition = out, floats, condition
        self._variants: dict = {}
        self._launches: dict = {}

    def _compile(self, dtypes: tuple, pattern: str) -> Callable:
        """The machine code for operands of these dtypes, without Numba's look at every argument."""
        dtype = dtypes[-1]
        function = self.name if self.text else self.parts[0].__name__
        call = f"{function}({', '.join(f'{{x{i}}}' for i in range(self.arity))})"
        title = f"{self.name}: operands {pattern}, v moves along the inner loop, s stands still"
        text = self.text + loops_source(call, pattern)
        run = build(f"{self.name}_{pattern}", text, self.parts, dtype, title)
        arrays = [types.Array(from_dtype(np.dtype(d)), 1, "C") for d in (*dtypes, self.out or dtype)]
        operands = [t for array in arrays[:-1] for t in (array, types.int64, types.int64)]
        return run.compile(tuple([types.int64] * 3 + operands + arrays[-1:]))

    def _launch(self, shapes: tuple, dtypes: tuple) -> tuple | None:
        """(compiled loops, shape of the result, sizes, strides) for such operands; all checks are here."""
        dtype = dtypes[-1]
        check_dtypes(self.name, dtypes, self.floats, self.condition)
        loops = plan(self.name, *shapes)
        if loops is None:
            return None
        run = self._variants.get((dtype, loops.pattern))
        if run is None:
            run = self._variants[dtype, loops.pattern] = self._compile(dtypes, loops.pattern)
        if len(self._launches) > 4096:  # shapes that never repeat must not pile up
            self._launches.clear()
        key = dtypes if len(dtypes) > 2 else dtype
        launch = self._launches[shapes, key] = (run, loops.shape, loops.sizes, loops.strides)
        return launch

    def __call__(self, *xs: np.ndarray) -> np.ndarray:
        if len(xs) == 1:  # one and two operands spelt out: this is where a small operation spends its time
            (x,) = xs
            if x.flags.c_contiguous:
                shape, dtype = x.shape, x.dtype
                launch = self._launches.get(((shape,), dtype)) or self._launch((shape,), (dtype,))
                out = empty(shape, self.out or dtype)
                launch[0](1, 1, x.size, x.ravel(), 0, 0, out.ravel())  # type: ignore[index]
                return out
        elif len(xs) == 2:
            x, y = xs
            dtype = y.dtype
            if x.dtype is dtype and x.flags.c_contiguous and y.flags.c_contiguous:
                shapes = (x.shape, y.shape)
                launch = self._launches.get((shapes, dtype)) or self._launch(shapes, (dtype, dtype))
                if launch is not None:
                    run, shape, (n0, n1, n2), ((r0, s0), (r1, s1)) = launch
                    out = empty(shape, self.out or dtype)
                    run(n0, n1, n2, x.ravel(), r0, s0, y.ravel(), r1, s1, out.ravel())
                    return out
        return self._any(*xs)

    def _any(self, *xs: np.ndarray) -> np.ndarray:
        """Any number of operands in any layout."""
        if not all([x.flags.c_contiguous for x in xs]):
            first = xs[0].shape
            if all([x.flags.f_contiguous and x.shape == first for x in xs]):
                return self(*[x.T for x in xs]).T
            xs = tuple([np.ascontiguousarray(x) if x.ndim else x for x in xs])
        shapes, dtypes = tuple([x.shape for x in xs]), tuple([x.dtype for x in xs])
        key = dtypes if len(dtypes) > 2 or dtypes[0] != dtypes[-1] else dtypes[-1]
        launch = self._launches.get((shapes, key)) or self._launch(shapes, dtypes)
        if launch is None:  # more loops than the kernel has: spread the operands out
            shape = broadcast_shapes(self.name, *shapes)
            return self(*[np.ascontiguousarray(np.broadcast_to(x, shape)) for x in xs])
        run, shape, sizes, strides = launch
        out = np.empty(shape, self.out or dtypes[-1])
        args = []
        for x, (r, s) in zip(xs, strides):
            args += (x.ravel(), r, s)
        run(*sizes, *args, out.ravel())
        return out
