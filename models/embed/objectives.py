"""Floor 7: the objectives of word2vec and fastText as graphs of operations: the definitions of what ``fused`` computes.

W holds the vectors that are kept, C those of the outputs. For a block of inputs x_i, outputs c_j and labels y_j

    J = sum_ij softplus(s_ij) - y_j s_ij,   s_ij = x_i . c_j

which is -log sigmoid(s) where the label is 1, -log sigmoid(-s) where it is 0: negative sampling, with 1 for the word
and 0 for those drawn (Mikolov et al. 2013), or hierarchical softmax, with the turns of a path (Morin and Bengio 2005).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import ops
from minigrad.engine import Tensor
from minigrad.nn.module import Module, Parameter, Seed, as_generator


class SkipGram(Module):
    """Each input by itself predicts the outputs: x_i = W[rows_i].

    rows:     V, of W (V, D), drawn from U(-1/2D, 1/2D)
    outputs:  of C (outputs, D), zeros; V unless given

    >>> model = SkipGram(5, 3, generator=0)
    >>> round(model.loss([1, 2], [0, 4], [1, 0]).item(), 4)  # 4 pairs with score 0: 4 log 2
    2.7726
    """

    def __init__(self, rows: int, dim: int, outputs: int | None = None, *, generator: Seed = None,
                 dtype: Any = np.float32):  # fmt: skip
        draws = as_generator(generator).uniform(-0.5 / dim, 0.5 / dim, (rows, dim))
        self.W = Parameter(draws.astype(dtype))
        self.C = Parameter(np.zeros((rows if outputs is None else outputs, dim), dtype))

    def inputs(self, rows: Any) -> Tensor:
        """X of a block's rows (b,): one of each here, (b, D)."""
        return ops.embedding(self.W, rows)

    def scores(self, rows: Any, outputs: Any) -> Tensor:
        """S (b, m)."""
        return self.inputs(rows) @ ops.embedding(self.C, outputs).T

    def loss(self, rows: Any, outputs: Any, labels: Any) -> Tensor:
        """J of a block, in nats."""
        s = self.scores(rows, outputs)  # (b, m)
        return ops.sum(ops.softplus(s) - s * s.beside(np.asarray(labels, self.W.dtype)))


class CBOW(SkipGram):
    """The inputs together predict the outputs: x = mean_i W[rows_i]; with subwords the rows are those of n-grams.

    The gradient is that of the sum, n times that of the mean of n rows, as in the code of word2vec, fastText and
    gensim: a place with many words around it moves each of them as far as a place with few.
    """

    def inputs(self, rows: Any) -> Tensor:
        x = super().inputs(rows)  # (n, D)
        total = ops.sum(x, 0, keepdims=True)  # (1, D)
        return total + (ops.mean(x, 0, keepdims=True) - total).detach()


class Softmax(SkipGram):
    """J = sum_i -log softmax(C x_i)[output]: all words are told apart. The labels play no part; one output a block."""

    def loss(self, rows: Any, outputs: Any, labels: Any = None) -> Tensor:
        x = self.inputs(rows)  # (b, D)
        target = np.full(x.shape[0], np.asarray(outputs)[0])
        return ops.cross_entropy(x @ self.C.T, target) * float(x.shape[0])
