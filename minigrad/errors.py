"""Floor 0: every error that minigrad raises on purpose.

A message says where, what it got, what it expected, and what to do about it.
"""

from __future__ import annotations


class MinigradError(Exception):
    """Base of all errors raised on purpose."""


class ShapeError(MinigradError, ValueError):
    """Sizes that do not fit together."""


class IndexingError(MinigradError, IndexError):
    """A position outside of the tensor."""


class DtypeError(MinigradError, TypeError):
    """A dtype that the operation does not take, or two that do not mix."""


class DeviceError(MinigradError, RuntimeError):
    """A device that is not there, or tensors on two of them."""


class GraphError(MinigradError, RuntimeError):
    """A backward pass that cannot be walked: freed, not recorded, or without a cotangent."""


class AnomalyError(MinigradError, FloatingPointError):
    """Anomaly mode met NaN or Inf."""


class UserError(MinigradError, ValueError):
    """Input of a person at the command line (files, options): one line, exit code 2."""


def describe(where: str, got: str, expected: str, do: str = "") -> str:
    """``[where] got ..., expected ...; do this`` in one line.

    >>> describe("matmul", "(2, 3) @ (4, 5)", "inner sizes to agree")
    '[matmul] got (2, 3) @ (4, 5), expected inner sizes to agree'
    """
    return f"[{where}] got {got}, expected {expected}" + (f"; {do}" if do else "")
