"""Floor 2, CPU: a kernel over many items that do not depend on each other, shared out to all threads.

Each item is computed in the same way whoever does it, so the number of threads does not change a bit of the result.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from minigrad.kernels.cpu import micro, parallel
from minigrad.kernels.cpu.build import emit, load

_TEXT = """
from numba import carray
from minigrad.kernels.cpu.compile import body, unit
from minigrad.kernels.cpu.micro import pointer_to

{pointers}


@unit
def items(first, last, {names}):
    {function}({call})


@body
def share(table, phase, worker, workers):
    t = carray(address_as_int64(table), ({count},))
    n = t[0]
    items(n * worker // workers, n * (worker + 1) // workers, {values})


@kernel
def fill(t, n, {names}):
    t[0] = n
{fill}
    return t.ctypes.data
"""
SERIAL = 65_536  # elements below which one thread is faster


class Shared:
    """A plain Python function ``f(first, last, ...)`` that does the items first .. last of its flat arrays, and may
    take whole numbers too; compiled when first called for a dtype.

    With ``cut``, an item is an element of each of the first so many arrays: the function gets those cut to its share,
    in place of first and last. ``shared(dtype, n, work, ...)`` does all n items, on one thread if ``work``, the
    elements to go through, is small.
    """

    def __init__(self, function: Callable, cut: int = 0):
        self.function, self.cut = function, cut
        self._compiled: dict[np.dtype, ModuleType] = {}

    def __call__(self, dtype: np.dtype, n: int, work: int, *arguments: Any) -> None:
        module = self._compiled.get(dtype)
        if module is None:
            module = self._compiled[dtype] = self._compile(dtype, arguments)
        table = np.empty(1 + 2 * len(arguments), np.int64)
        address = module.fill(table, n, *arguments)
        parallel.run(module.share.address, address, 1, parallel.workers() if work > SERIAL else 1)

    def _compile(self, dtype: np.dtype, arguments: tuple[Any, ...]) -> ModuleType:
        names = list(inspect.signature(self.function).parameters)[0 if self.cut else 2 :]
        call = [f"{name}[first:last]" if i < self.cut else name for i, name in enumerate(names)]
        call = call if self.cut else ["first", "last", *call]
        kinds = [x.dtype.name if isinstance(x, np.ndarray) else "" for x in arguments]
        values, fill = [], []
        for i, (name, kind) in enumerate(zip(names, kinds, strict=True)):
            at, size = f"t[{1 + 2 * i}]", f"t[{2 + 2 * i}]"
            values.append(f"carray(pointer_{kind}({at}), ({size},))" if kind else at)
            fill.append(f"    {at}, {size} = {name}.ctypes.data, {name}.size" if kind else f"    {at} = {name}")
        pointers = [f'pointer_{kind} = pointer_to("{kind}")' for kind in sorted(set(kinds) - {"", "int64"})]
        pointers += ["pointer_int64 = address_as_int64"] * ("int64" in kinds)
        own, comma = self.function.__name__, ", ".join
        text = _TEXT.format(function=own, call=comma(call), names=comma(names), values=comma(values),
                            fill="\n".join(fill), pointers="\n".join(pointers), count=1 + 2 * len(names))  # fmt: skip
        functions = [self.function, micro.address_as_int64]
        return load(f"{own}_{dtype.name}", emit(f"{own}, shared out to threads", text, functions, dtype))
