"""Floor 3: anomaly mode: which operation made the first NaN or Inf, of what, and on which line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.errors import AnomalyError
from minigrad.kernels import BACKENDS
from minigrad.kernels.abstract import Abstract

_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep


def caller() -> str:
    """``file:line`` of the innermost frame outside the package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _bad(array: Any) -> str:
    """What is wrong with an array, or an empty text."""
    if array.dtype.kind != "f" or type(array) is Abstract:  # a rule that is traced has no values
        return ""
    values = BACKENDS[type(array)].to_numpy(array)
    if np.isfinite(values).all():
        return ""
    nan, inf = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    finite = values[np.isfinite(values)]
    span = f", the finite ones in [{finite.min():.3g}, {finite.max():.3g}]" if finite.size else ""
    return f"{nan} NaN and {inf} Inf of {values.size} values{span}"


def check_forward(name: str, inputs: tuple[Any, ...], out: Any, where: str) -> None:
    for array in out if isinstance(out, tuple) else (out,):
        if bad := _bad(array):
            shapes = ", ".join(str(x.shape) for x in inputs)
            raise AnomalyError(f"[{name}] forward of inputs {shapes} gave {bad}; called at {where}")


def check_backward(name: str, i: int, inputs: tuple[Any, ...], g: Any, where: str) -> None:
    if bad := _bad(g.data):
        shapes = ", ".join(str(x.shape) for x in inputs)
        line = where or "a line recorded without anomaly mode"
        raise AnomalyError(f"[{name}] backward gave {bad} for input {i} of {shapes}; the forward call is at {line}")
