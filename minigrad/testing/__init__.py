"""Floor 6: testing gradients."""

from minigrad.testing.check import check_grad
from minigrad.testing.foreign import check_jvp, check_vjp
from minigrad.testing.frameworks import from_autograd, from_jax, from_torch
from minigrad.testing.report import GradientError, Verdict

__all__ = [
    "GradientError", "Verdict", "check_grad", "check_jvp", "check_vjp", "from_autograd", "from_jax", "from_torch",
]  # fmt: skip
