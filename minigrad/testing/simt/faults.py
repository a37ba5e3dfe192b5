"""Floor 6: what the emulator finds wrong with a kernel. Every message ends with the place: block, thread, line."""

from __future__ import annotations

import linecache
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

from minigrad.errors import MinigradError

_OWN = {str(path) for path in Path(__file__).parent.glob("*.py")}


class KernelError(MinigradError):
    """A fault of a kernel."""


class DivergenceError(KernelError):
    """Threads that should meet do not."""


class RaceError(KernelError):
    """Two threads use one element, at least one writes it, and nothing orders them."""


class BoundsError(KernelError, IndexError):
    """An access outside of an array, or one that is not aligned."""


class UnwrittenError(KernelError):
    """A read of memory that nobody wrote."""


class EndlessError(KernelError):
    """A kernel that does not end."""


Where = tuple[CodeType, int]  # an instruction of a function


def line(where: Where | None) -> str:
    """file:12 in name: its source"""
    if where is None:
        return "a place unknown"
    code, at = where
    number = next((n for first, last, n in code.co_lines() if first <= at < last and n), code.co_firstlineno)
    text = linecache.getline(code.co_filename, number).strip()
    return f"{Path(code.co_filename).name}:{number} in {code.co_name}" + (f": {text}" if text else "")


def of_kernel(frame: FrameType | None) -> Where | None:
    """The innermost place, from ``frame`` outwards, that is not of the emulator."""
    while frame is not None and frame.f_code.co_filename in _OWN:
        frame = frame.f_back
    return None if frame is None else (frame.f_code, frame.f_lasti)


def of_error(trace: TracebackType | None) -> Where | None:
    """The innermost place that an error passed, and that is not of the emulator."""
    found = None
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename not in _OWN and "numpy" not in code.co_filename:
            found = code, trace.tb_lasti
        trace = trace.tb_next
    return found


def place(number: int, launch: Any) -> str:
    """Block and thread of the thread with this number in the grid: "block 1, thread 2" where they are on one axis."""

    def of(i: int, shape: Any) -> str:
        x, y, z = i % shape.x, i // shape.x % shape.y, i // (shape.x * shape.y)
        return str(x) if shape.y == shape.z == 1 else f"({x}, {y}, {z})"

    block, i = divmod(number, launch.shape.size)
    return f"block {of(block, launch.grid)}, thread {of(i, launch.shape)}"
