"""Floor 5: modules: parameters, and what is computed with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigrad.engine import Tensor, no_grad, tensor
from minigrad.errors import MinigradError, ShapeError, describe
from minigrad.kernels import BACKENDS, named

Seed = np.random.Generator | int | None


def as_generator(seed: Seed) -> np.random.Generator:
    """A random generator: the one given, or a new one from a number, or from the system."""
    return seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)


def Parameter(data: Any) -> Tensor:
    """A tensor to be learned."""
    return tensor(data, requires_grad=True)


class Module:
    """Base of everything with parameters: those are the leaf tensors with ``requires_grad`` among the attributes,
    and those of the modules among them (also in lists, tuples and dicts)."""

    training = True
    _frozen: frozenset[str] = frozenset()  # names of attributes that are parameters, but are not learned

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, value in _members(self):
            if isinstance(value, Module):
                yield from value.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self, frozen: bool = False) -> Iterator[tuple[str, Tensor]]:
        """Pairs of dotted name and tensor; a tensor that is used twice (tied) comes once. Of those that are not learned
        (``requires_grad_``) only with ``frozen``."""
        kept: set[int] = set()
        for _, module in self.named_modules() if frozen else ():
            kept |= {id(value) for name, value in _members(module) if name in module._frozen}
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, value in _members(module):
                if not isinstance(value, Tensor) or id(value) in seen:
                    continue
                if id(value) in kept or (value.requires_grad and value.is_leaf):
                    seen.add(id(value))
                    yield (f"{prefix}.{name}" if prefix else name), value

    def parameters(self) -> list[Tensor]:
        return [p for _, p in self.named_parameters()]

    def zero_grad(self) -> None:
        for p in self.parameters():
            p.grad = None

    def train(self, mode: bool = True) -> Module:
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        return self.train(False)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Inside, no dropout, and nothing is recorded."""
        before = self.training
        self.eval()
        try:
            with no_grad():
                yield
        finally:
            self.train(before)

    def requires_grad_(self, mode: bool = True) -> Module:
        """Learn all parameters from now on, or freeze them: those are no ``parameters`` for an optimiser and get no
        gradient, but are saved and loaded as ever.

        >>> import minigrad as mg
        >>> layer = mg.nn.Embedding(3, 2).requires_grad_(False)
        >>> len(layer.parameters()), list(layer.state_dict())
        (0, ['weight'])
        """
        found = {id(p): p for _, p in self.named_parameters(frozen=True)}
        for p in found.values():
            p.requires_grad, p.grad = mode, p.grad if mode else None
        for _, module in self.named_modules():
            module._frozen = frozenset() if mode else frozenset(name for name, v in _members(module) if id(v) in found)
        return self

    def to(self, device: str) -> Module:
        """Move all parameters, frozen ones too, to a device. Their gradients are dropped; an optimiser's buffers follow
        at its next step."""
        backend = named(device)
        for _, p in self.named_parameters(frozen=True):
            if p.device != device:
                p.data, p.grad = backend.from_numpy(p.numpy()), None
        return self

    @property
    def device(self) -> str:
        """Of the first parameter."""
        return next((p.device for _, p in self.named_parameters(frozen=True)), "cpu")

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters by name, frozen ones too."""
        return {name: p.numpy().copy() for name, p in self.named_parameters(frozen=True)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the parameters of ``state``; names and shapes must agree. Nothing changes if they do not."""
        own = dict(self.named_parameters(frozen=True))
        where = type(self).__name__
        if missing := sorted(own.keys() - state.keys()):
            got = f"no parameter {missing[0]} (and {len(missing) - 1} more missing)"
            raise MinigradError(describe(where, got, "all of them"))
        if unknown := sorted(state.keys() - own.keys()):
            raise MinigradError(describe(where, f"parameter {unknown[0]}", f"one of {', '.join(sorted(own))}"))
        for name, p in own.items():
            if np.shape(state[name]) != p.shape:
                raise ShapeError(describe(where, f"{name} of shape {np.shape(state[name])}", str(p.shape)))
        new = {name: BACKENDS[type(p.data)].from_numpy(np.asarray(state[name], p.dtype)) for name, p in own.items()}
        for name, p in own.items():
            p.data = new[name]

    def __repr__(self) -> str:
        count = sum(p.size for p in self.parameters())
        return f"{type(self).__name__}({count} parameters)"


def _members(module: Module) -> Iterator[tuple[str, Any]]:
    """Attributes, with the elements of containers as ``name.0``."""
    for name, value in vars(module).items():
        yield from _flat(name, value)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from _flat(f"{name}.{i}", part)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}", part)
    else:
        yield name, value
