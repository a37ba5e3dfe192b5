"""Floor 3: tensors, the tape, reverse mode and the transforms built on it. It names no operation."""

from minigrad.engine.backward import Basis, install, toposort
from minigrad.engine.tape import (
    Node, Operation, apply, detect_anomaly, enable_grad, is_recording, no_grad, observe,
)  # fmt: skip
from minigrad.engine.tensor import Tensor, constant, device, tensor
from minigrad.engine.transforms import (
    checkpoint, grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp,
)  # fmt: skip

__all__ = [
    "Basis", "Node", "Operation", "Tensor", "apply", "checkpoint", "constant", "detect_anomaly", "device",
    "enable_grad", "grad", "hessian", "hvp", "install", "is_recording", "jacobian", "jvp", "no_grad", "observe",
    "tensor", "toposort", "value_and_grad", "vjp",
]  # fmt: skip
