"""Floor 7: output layers: from h (..., H) to the distribution of V classes, exact and approximate.

All have ``loss(h, targets)``, the objective of training, a mean; ``nll(h, targets)``, the exact -log p (...);
``logits(h)`` (..., V). Targets are integers (...); those equal to -100 count nothing. In evaluation ``loss`` is the
exact mean. V is a vocabulary whose id 0 is the most frequent word.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad import nn, ops
from minigrad.engine import Tensor
from minigrad.errors import IndexingError, describe
from minigrad.models.sampling import LogUniform, distinct, expected_count
from minigrad.nn.module import Seed, as_generator

IGNORED = -100
NEVER = -1e30  # a logit; its probability is 0, and no derivative becomes Inf - Inf


def rows(h: Tensor, targets: Any, classes: int) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """h (N, H) and targets (N,) of the N positions that count, and which those are (..., flat)."""
    t = (targets.numpy() if isinstance(targets, Tensor) else np.asarray(targets)).ravel()
    h, counted = ops.reshape(h, (t.size, h.shape[-1])), np.flatnonzero(t != IGNORED)
    if len(counted) < t.size:
        h, t = ops.embedding(h, counted), t[counted]
    if t.size and not 0 <= t.min() <= t.max() < classes:
        raise IndexingError(describe("softmax", f"targets from {t.min()} to {t.max()}", f"0 <= target < {classes}"))
    return h, t, counted


class Exact(nn.Linear):
    """p = softmax(W h + b), W (V, H): -log p by blocks of rows, so that the logits (..., V) never exist whole.

    >>> import minigrad as mg
    >>> Exact(3, 5, generator=0).nll(mg.tensor([[1.0, 2.0, 3.0]]), [4]).shape
    (1,)
    """

    def logits(self, h: Tensor) -> Tensor:
        return self(h)

    def loss(self, h: Tensor, targets: Any) -> Tensor:
        return ops.linear_cross_entropy(h, self.weight, targets, self.bias)

    def nll(self, h: Tensor, targets: Any) -> Tensor:
        return ops.linear_cross_entropy(h, self.weight, targets, self.bias, reduction="none")


class _Drawn(Exact):
    """Trained on the targets and on ``samples`` drawn classes, the same ones for the whole batch: neither time nor
    memory of a step grows with V, and W.grad holds those rows alone (see ``nn.Embedding(sparse=True)``)."""

    def __init__(self, features: int, classes: int, samples: int = 1024, *, generator: Seed = None):
        self.generator = as_generator(generator)
        super().__init__(features, classes, generator=self.generator)
        self.sampler, self.samples = LogUniform(classes), samples

    def _scores(self, h: Tensor, targets: np.ndarray, drawn: np.ndarray, log_counts: np.ndarray) -> tuple:
        """W h + b - log count of the targets (N,) and of the drawn classes (N, K)."""
        ids = np.concatenate([drawn, targets])
        weight = ops.embedding(self.weight, ids, sparse=True)  # (K + N, H)
        bias = ops.embedding(self.bias, ids, sparse=True) - h.beside(log_counts.astype(h.dtype))
        (w_drawn, w_true), (b_drawn, b_true) = ops.split(weight, [len(drawn)]), ops.split(bias, [len(drawn)])
        return ops.sum(h * w_true, -1) + b_true, ops.linear(h, w_drawn, b_drawn)


class Sampled(_Drawn):
    """Sampled softmax (Jean et al. 2015): the softmax over the target and K different drawn classes.

    s_i = (W h + b)_i - log Q_i, Q_i how likely class i is drawn;  loss = -log(e^s_t / (e^s_t + sum of e^s_i)), i the
    drawn ones but t, as TensorFlow's ``sampled_softmax_loss`` with its ``log_uniform_candidate_sampler``.

    >>> import minigrad as mg
    >>> layer = Sampled(3, 100, samples=10, generator=0)
    >>> layer.loss(mg.tensor([[1.0, 2.0, 3.0]]), [7]).backward()
    >>> layer.weight.grad.shape, layer.weight.grad.data
    ((100, 3), 11 rows of float32[100, 3])
    """

    def loss(self, h: Tensor, targets: Any) -> Tensor:
        if not self.training:
            return super().loss(h, targets)
        h, t, _ = rows(h, targets, self.sampler.classes)
        ids, log_counts = self.draw(t)
        true, others = self._scores(h, t, ids, log_counts)
        others = ops.where(t[:, None] == ids, NEVER, others)
        return _mean(ops.softplus(ops.logsumexp(others, -1) - true))

    def draw(self, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Drawn classes (K,), all of them if V is no larger; log Q of those and of the targets (K + N,)."""
        classes = self.sampler.classes
        if self.samples >= classes:
            return np.arange(classes), np.zeros(classes + len(targets))
        ids, draws = distinct(self.sampler, self.samples, self.generator)
        return ids, np.log(expected_count(self.sampler, np.concatenate([ids, targets]), draws))


class NCE(_Drawn):
    """Noise-contrastive estimation (Gutmann and Hyvarinen 2012; Mnih and Teh 2012): tell the target from K noise words.

    s_i = (W h + b)_i - log V, taken for log p(i) as it is;  d_i = s_i - log(K q_i), q the noise;
    loss = -log sigmoid(d_t) - sum_k log(1 - sigmoid(d_k)), which is no -log p: compare models by ``nll``.
    Noise that is the target stays, as the theory wants it. The constant log V begins near normalised scores.

    >>> import minigrad as mg
    >>> NCE(3, 100, samples=10, generator=0).loss(mg.tensor([[1.0, 2.0, 3.0]]), [7]).shape
    ()
    """

    def loss(self, h: Tensor, targets: Any) -> Tensor:
        if not self.training:
            return super().loss(h, targets)
        h, t, _ = rows(h, targets, self.sampler.classes)
        noise = self.sampler.draw(self.samples, self.generator)
        q = self.sampler.probability(np.concatenate([noise, t]))
        true, others = self._scores(h, t, noise, np.log(self.samples * q * self.sampler.classes))
        return _mean(ops.softplus(-true) + ops.sum(ops.softplus(others), -1))


def clusters(features: int, classes: int) -> tuple[list[int], list[int]]:
    """Ends of the clusters of an adaptive softmax, and the width of each: a twentieth, a fifth and the rest of the
    words at widths H, H/4 and H/16. Below 100 classes it is one cluster.

    >>> clusters(200, 100_000)
    ([5000, 25000, 100000], [200, 50, 12])
    """
    ends = [classes // 20, classes // 4, classes] if classes >= 100 else [classes]
    return ends, [max(features // 4**i, 1) for i in range(len(ends))]


class Adaptive(nn.Module):
    """Adaptive softmax (Grave et al. 2017): the first words and one class for each tail of rarer ones, then a word of
    the tail; the rarer, the narrower.

    p(i) = softmax(W h + b)_i in the head;  p(i) = softmax(W h + b)_tail softmax(U_tail P_tail h)_i in a tail

    Logits are log p; their exponentials sum to 1. Parameters as PyTorch's ``AdaptiveLogSoftmaxWithLoss`` with
    ``head_bias``: head (ends[0] + tails, H), of each tail P (width, H) and U (words, width).

    >>> import minigrad as mg
    >>> layer = Adaptive(8, 1000, generator=0)
    >>> mg.exp(layer.logits(mg.tensor(np.ones((2, 8), np.float32)))).sum(-1)
    tensor([1., 1.], by=sum)
    """

    def __init__(self, features: int, classes: int, *, generator: Seed = None):
        rng = as_generator(generator)
        self.ends, widths = clusters(features, classes)
        self.head = nn.Linear(features, self.ends[0] + len(self.ends) - 1, generator=rng)
        self.tails = [
            (nn.Linear(features, width, False, generator=rng), nn.Linear(width, last - first, False, generator=rng))
            for first, last, width in zip(self.ends, self.ends[1:], widths[1:])
        ]

    def logits(self, h: Tensor) -> Tensor:
        short = self.ends[0]
        head = ops.log_softmax(self.head(h))  # (..., short + tails)
        parts = [ops.log_softmax(up(down(h))) + head[..., short + i, None] for i, (down, up) in enumerate(self.tails)]
        return ops.concat([head[..., :short], *parts], -1)

    def _parts(self, h: Tensor, t: np.ndarray, reduction: str) -> list[tuple[np.ndarray, Tensor]]:
        """-log p of the head and of each tail, with the positions that it concerns."""
        tail = np.searchsorted(self.ends[:-1], t, side="right")  # (N,), 0 for the head
        first = np.where(tail == 0, t, self.ends[0] - 1 + tail)
        loss = ops.linear_cross_entropy(h, self.head.weight, first, self.head.bias, reduction=reduction)
        found = [(np.arange(len(t)), loss)]
        for i, (down, up) in enumerate(self.tails):
            at = np.flatnonzero(tail == i + 1)
            if len(at):
                x = down(ops.embedding(h, at))
                loss = ops.linear_cross_entropy(x, up.weight, t[at] - self.ends[i], reduction=reduction)
                found.append((at, loss))
        return found

    def loss(self, h: Tensor, targets: Any) -> Tensor:
        h, t, _ = rows(h, targets, self.ends[-1])
        losses = [loss for _, loss in self._parts(h, t, "sum")]
        return ops.sum(ops.stack(losses)) * (1 / max(len(t), 1))

    def nll(self, h: Tensor, targets: Any) -> Tensor:
        shape = np.shape(targets)
        h, t, counted = rows(h, targets, self.ends[-1])
        total = h.beside(np.zeros(math.prod(shape), h.dtype))
        for at, loss in self._parts(h, t, "none"):
            total = ops.scatter_add(total, counted[at], loss)
        return ops.reshape(total, shape)


def _mean(losses: Tensor) -> Tensor:
    """0 where nothing counts."""
    return ops.sum(losses) * (1 / max(losses.size, 1))


SOFTMAXES = {"exact": Exact, "adaptive": Adaptive, "sampled": Sampled, "nce": NCE}


def make_softmax(kind: str, features: int, classes: int, samples: int, generator: np.random.Generator) -> Any:
    """The output layer of a name in ``SOFTMAXES``."""
    options = {"samples": samples} if kind in ("sampled", "nce") else {}
    return SOFTMAXES[kind](features, classes, generator=generator, **options)


def shapes(kind: str, features: int, classes: int) -> dict[str, tuple[int, ...]]:
    """Of the weights of such a layer, by name, without making one."""
    if kind != "adaptive":
        return {"weight": (classes, features)}
    ends, widths = clusters(features, classes)
    found: dict[str, tuple[int, ...]] = {"head.weight": (ends[0] + len(ends) - 1, features)}
    for i, (first, last, width) in enumerate(zip(ends, ends[1:], widths[1:])):
        found |= {f"tails.{i}.0.weight": (width, features), f"tails.{i}.1.weight": (last - first, width)}
    return found
