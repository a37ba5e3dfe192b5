"""Floor 6: testing gradients."""

from minigrad.testing.check import GradientError, check_grad

__all__ = ["GradientError", "check_grad"]
