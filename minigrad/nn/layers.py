"""Floor 5: the layers without time: Linear, Embedding, Dropout, LayerNorm."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import ops
from minigrad.engine import Tensor
from minigrad.errors import DtypeError, ShapeError, describe
from minigrad.kernels import bernoulli
from minigrad.nn.module import Module, Parameter, Seed, as_generator


def uniform(generator: np.random.Generator, bound: float, *shape: int) -> Tensor:
    """A parameter drawn from U(-bound, bound)."""
    return Parameter(generator.uniform(-bound, bound, shape).astype(np.float32))


class Linear(Module):
    """y = x W^T + b; x (..., I), W (O, I), b (O,), y (..., O). Both drawn from U(-1/sqrt(I), 1/sqrt(I)).

    >>> import minigrad as mg
    >>> mg.nn.Linear(3, 2, generator=0)(mg.tensor([[1.0, 2.0, 3.0]])).shape
    (1, 2)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, generator: Seed = None):
        rng = as_generator(generator)
        bound = 1 / max(in_features, 1) ** 0.5
        self.weight = uniform(rng, bound, out_features, in_features)
        self.bias = uniform(rng, bound, out_features) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 0 or x.shape[-1] != self.weight.shape[1]:
            expected = f"(..., I) with I = {self.weight.shape[1]}"
            raise ShapeError(describe("Linear", f"x {x.shape}", expected))
        return ops.linear(x, self.weight, self.bias)


class Embedding(Module):
    """e = E[i]: the rows of a table (V, D) at integers (...), giving (..., D). Drawn from N(0, scale^2).

    With ``sparse``, the gradient of a large table is only the rows that were read, ``backward`` and the optimiser touch
    no others, and the optimiser writes into the table. SGD and Adagrad then step as ever; of Adam, AdamW, RMSprop,
    momentum and weight decay the rows that were not read see nothing (as PyTorch's SparseAdam). On a GPU ``sparse``
    changes nothing: every row is stepped.

    >>> import minigrad as mg
    >>> mg.nn.Embedding(10, 4, generator=0)([[1, 2, 3]]).shape
    (1, 3, 4)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, sparse: bool = False, scale: float = 1.0,
                 generator: Seed = None):  # fmt: skip
        rng = as_generator(generator)
        self.sparse = sparse
        self.weight = Parameter(scale * rng.standard_normal((num_embeddings, embedding_dim), np.float32))

    @classmethod
    def from_pretrained(cls, embeddings: Any, freeze: bool = True, *, sparse: bool = False) -> Embedding:
        """A layer with the rows of ``embeddings`` (V, D), copied; frozen, it does not learn (``requires_grad_``)."""
        layer, rows = cls.__new__(cls), np.array(embeddings)
        if rows.ndim != 2:
            raise ShapeError(describe("Embedding", f"embeddings {rows.shape}", "(V, D)"))
        layer.sparse, layer.weight = sparse, Parameter(rows if rows.dtype.kind == "f" else rows.astype(np.float32))
        layer.requires_grad_(not freeze)
        return layer

    def forward(self, indices: Any) -> Tensor:
        return ops.embedding(self.weight, indices, self.sparse)


def random_mask(p: float, x: Tensor, shape: tuple[int, ...], generator: np.random.Generator, scaled: bool = True
                ) -> Tensor:  # fmt: skip
    """0 with probability p, else 1, or 1 / (1 - p) if ``scaled``, so that the mean stays. It is drawn on the device of
    x from one number of the generator; every device draws the same."""
    if x.dtype.kind != "f":
        raise DtypeError(describe("dropout", str(x.dtype), "float32 or float64", "cast it: x.astype('float32')"))
    key = int(generator.integers(2**63))
    return Tensor(bernoulli(x.data, shape, 1.0 - p, key, 1.0 / (1.0 - p) if scaled else 1.0))


class Dropout(Module):
    """In training each element is 0 with probability p, else x / (1 - p); in evaluation x. Masks come from the
    generator, so a seed repeats them, on every device. ``locked``: one mask for all of the first axis, the steps of x
    (T, ...) (Gal and Ghahramani 2016).

    >>> import minigrad as mg
    >>> mg.nn.Dropout(0.5).eval()(mg.tensor([1.0]))
    tensor([1.])
    """

    def __init__(self, p: float = 0.5, *, locked: bool = False, generator: Seed = None):
        if not 0.0 <= p < 1.0:
            raise ValueError(describe("Dropout", f"p={p}", "0 <= p < 1"))
        self.p, self.locked, self.generator = p, locked, as_generator(generator)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        shape = (1, *x.shape[1:]) if self.locked else x.shape
        return x * random_mask(self.p, x, shape, self.generator)


def normalised(x: Any, gain: Any, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) gain over the last axis (Ba, Kiros and Hinton 2016)."""
    centred = x - ops.mean(x, -1, keepdims=True)
    return centred / ops.sqrt(ops.mean(ops.square(centred), -1, keepdims=True) + eps) * gain  # type: ignore[operator]


class LayerNorm(Module):
    """y = (x - mean) / sqrt(var + eps) w + b over the last axis, n wide (Ba, Kiros and Hinton 2016).

    >>> import minigrad as mg
    >>> mg.nn.LayerNorm(2)(mg.tensor([[1.0, 3.0]]))
    tensor([[-1.,  1.]], by=add)
    """

    def __init__(self, n: int, eps: float = 1e-5):
        self.weight, self.bias, self.eps = Parameter(np.ones(n, np.float32)), Parameter(np.zeros(n, np.float32)), eps

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 0 or x.shape[-1] != self.weight.shape[0]:
            raise ShapeError(describe("LayerNorm", f"x {x.shape}", f"(..., {self.weight.shape[0]})"))
        return normalised(x, self.weight, self.eps) + self.bias
