"""minigrad: reverse-mode automatic differentiation with Numba kernels, and sequence models on top."""

from minigrad import nn, optim, testing
from minigrad.compiler import explain, scan
from minigrad.engine import (
    Operation, Tensor, apply, checkpoint, detect_anomaly, device, enable_grad, grad, hessian, hvp, jacobian, jvp,
    no_grad, tensor, value_and_grad, vjp,
)  # fmt: skip
from minigrad.nn import load, save
from minigrad.ops import *  # noqa: F403

__version__ = "0.1.0"
