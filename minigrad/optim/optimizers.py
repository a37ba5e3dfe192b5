"""Floor 5: the optimisers: after ``backward``, ``step`` replaces the data of every parameter that has a gradient.

The data is replaced, not written to: arrays taken from a parameter before keep their values. Only a gradient of a few
rows (``nn.Embedding(sparse=True)``) is a step of those rows in place. Walk a graph backward before a step replaces what
it was recorded with.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad.engine import Tensor
from minigrad.errors import DeviceError, MinigradError, ShapeError, describe
from minigrad.kernels import BACKENDS, moved, sparse


class Optimizer:
    """Base: parameters, a learning rate ``lr`` that may be set between steps; for each parameter its number of steps
    and its buffers. A parameter without gradient is left alone."""

    name: str
    buffers = 1

    def __init__(self, parameters: Iterable[Tensor], lr: float):
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError(describe(type(self).__name__, "no parameter", "one at least", "pass model.parameters()"))
        if any(not isinstance(p, Tensor) or not p.requires_grad or not p.is_leaf for p in self.parameters):
            got, expected = "something that is no parameter", "leaf tensors with requires_grad"
            raise ValueError(describe(type(self).__name__, got, expected))
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise ValueError(describe(type(self).__name__, "a parameter twice", "each once"))
        self.lr = lr
        self.steps = [0] * len(self.parameters)
        self._state: list[list[Any]] = [[] for _ in self.parameters]
        self._own: list[Any] = [None] * len(self.parameters)  # data that steps made of a few rows may write into
        self._check(lr=lr)

    def _check(self, below: float = math.inf, **numbers: float) -> None:
        for name, x in numbers.items():
            if not 0 <= x < below:
                expected = "a number >= 0" + (f" and < {below}" if below < math.inf else "")
                raise ValueError(describe(type(self).__name__, f"{name}={x}", expected))

    def settings(self, step: int) -> list[float]:
        """The numbers that the kernel reads in a parameter's step 1, 2, ..."""
        raise NotImplementedError

    def step(self) -> None:
        """One update from the gradients of now."""
        for i, (p, state) in enumerate(zip(self.parameters, self._state)):
            if p.grad is None:
                continue
            if p.grad.shape != p.shape or p.grad.dtype != p.dtype:
                got = f"a gradient {p.grad.shape} {p.grad.dtype}"
                raise ShapeError(describe(type(self).__name__, got, f"{p.shape} {p.dtype}, as the parameter"))
            backend = BACKENDS[type(p.grad.data)]
            if not state:
                state += [backend.full(p.shape, 0, p.dtype) for _ in range(self.buffers)]
            if backend is not sparse and type(p.grad.data) is not type(p.data):
                got = f"a gradient on {p.grad.device} of a parameter on {p.device}"
                raise DeviceError(describe(type(self).__name__, got, "one device", "call backward after model.to()"))
            state[:] = [moved(b, p.data) for b in state]
            self.steps[i] += 1
            old, settings = p.data, self.settings(self.steps[i])
            if backend is sparse and old is not self._own[i]:  # it may be the user's
                old = BACKENDS[type(old)].from_numpy(old)
            p.data = backend.update(self.name, old, p.grad.data, state, settings)
            self._own[i] = p.data if backend is sparse else None

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """Arrays ``name.i.j``, buffer j of parameter i, and ``steps``, how many each has made."""
        arrays = {
            f"{self.name}.{i}.{j}": BACKENDS[type(b)].to_numpy(b).copy()
            for i, state in enumerate(self._state)
            for j, b in enumerate(state)
        }
        return {"steps": np.array(self.steps), **arrays}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Go on from ``state``, of the same kind of optimiser for the same parameters. Nothing changes if it is not."""
        where, count = type(self).__name__, len(self.parameters)
        if np.shape(state.get("steps")) != (count,):
            raise MinigradError(describe(where, "another state", f"the state of an optimiser of {count} parameters"))
        new: list[list[Any]] = []
        for i, p in enumerate(self.parameters):
            names = [f"{self.name}.{i}.{j}" for j in range(self.buffers)]
            found = [state[name] for name in names if name in state]
            if any(np.shape(b) != p.shape for b in found) or len(found) != (self.buffers if state["steps"][i] else 0):
                got = f"buffers of shapes {[np.shape(b) for b in found]} for parameter {i}"
                raise MinigradError(describe(where, got, f"{self.buffers} of shape {p.shape}"))
            new.append([BACKENDS[type(p.data)].from_numpy(np.asarray(b, p.dtype, "C")) for b in found])
        self._state, self.steps = new, [int(n) for n in state["steps"]]


class SGD(Optimizer):
    """m = momentum m + g + weight_decay p;  p -= lr m (PyTorch's form of momentum).

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> mg.optim.SGD([w], lr=0.1).step()
    >>> w
    tensor([0.8], requires_grad=True)
    """

    name = "sgd"

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.0, weight_decay: float = 0.0):
        super().__init__(parameters, lr)
        self._check(momentum=momentum, weight_decay=weight_decay)
        self.momentum, self.weight_decay = momentum, weight_decay

    def settings(self, step: int) -> list[float]:
        return [self.lr, self.momentum, self.weight_decay]


class Adagrad(Optimizer):
    """v += g^2;  p -= lr g / (sqrt(v) + eps) (Duchi, Hazan and Singer 2011)."""

    name = "adagrad"

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-2, eps: float = 1e-10, weight_decay: float = 0.0):
        super().__init__(parameters, lr)
        self._check(eps=eps, weight_decay=weight_decay)
        self.eps, self.weight_decay = eps, weight_decay

    def settings(self, step: int) -> list[float]:
        return [self.lr, self.eps, self.weight_decay]


class RMSprop(Optimizer):
    """v = alpha v + (1 - alpha) g^2;  m = momentum m + g / (sqrt(v) + eps);  p -= lr m (Tieleman and Hinton 2012)."""

    name, buffers = "rmsprop", 2

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 momentum: float = 0.0, weight_decay: float = 0.0):  # fmt: skip
        super().__init__(parameters, lr)
        self._check(eps=eps, momentum=momentum, weight_decay=weight_decay)
        self._check(below=1, alpha=alpha)
        self.alpha, self.eps, self.momentum, self.weight_decay = alpha, eps, momentum, weight_decay

    def settings(self, step: int) -> list[float]:
        return [self.lr, self.alpha, self.eps, self.momentum, self.weight_decay]


class Adam(Optimizer):
    """m, v: running means of g and g^2, corrected for their start;  p -= lr m / (sqrt(v) + eps) (Kingma and Ba 2015).

    ``weight_decay`` adds to the gradient; AdamW takes it from the parameter instead.
    """

    name, buffers, decoupled = "adam", 2, False

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.0):  # fmt: skip
        super().__init__(parameters, lr)
        self._check(eps=eps, weight_decay=weight_decay)
        self._check(below=1, beta1=betas[0], beta2=betas[1])
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def settings(self, step: int) -> list[float]:
        b1, b2 = self.betas
        c1, c2 = 1 / (1 - b1**step), 1 / (1 - b2**step)
        decay = (0.0, self.weight_decay) if self.decoupled else (self.weight_decay, 0.0)
        return [self.lr, b1, b2, self.eps, c1, c2, *decay]


class AdamW(Adam):
    """Adam with p (1 - lr weight_decay) before the step (Loshchilov and Hutter 2019)."""

    decoupled = True

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2):  # fmt: skip
        super().__init__(parameters, lr, betas, eps, weight_decay)
