"""Floor 7: GloVe: vectors whose products are the logarithms of co-occurrence counts; its graph and its fast kernel."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import exp, log, sqrt
from typing import Any

import numpy as np

from minigrad import nn, ops
from minigrad.engine import Tensor
from minigrad.errors import UserError, describe
from minigrad.kernels.cpu.build import Kernel
from minigrad.kernels.cpu.micro import fast_add
from minigrad.models.embed.blocks import below, stirred
from minigrad.models.embed.cooccurrence import Counts, count
from minigrad.models.embed.hogwild import Hogwild, Report
from minigrad.nn.module import Parameter, Seed, as_generator

__all__ = ["Counts", "GloVe", "GloVeTraining", "count", "train_glove"]

BLOCK = 1 << 16  # pairs that are shuffled together


class GloVe(nn.Module):
    """J = 1/2 sum f(x) (w_i . c_j + b_i + d_j - log x)^2 over records (i, j, x);  f(x) = min(1, (x / x_max)^alpha).

    (Pennington, Socher and Manning 2014, equation 8; the half is that of the authors' program, whose cost is J a
    record). w, c (V, D); b, d (V,), drawn from U(-1/2, 1/2) / D. The vector of a word is w + c.

    >>> model = GloVe(5, 3, generator=0)
    >>> model.loss(np.array([0, 4]), np.array([1, 4]), np.array([2.0, 0.5])).shape, model.vectors().shape
    ((), (5, 3))
    """

    def __init__(self, words: int, dim: int = 100, *, x_max: float = 100.0, alpha: float = 0.75,
                 generator: Seed = None, dtype: Any = np.float32):  # fmt: skip
        rng = as_generator(generator)
        self.x_max, self.alpha = x_max, alpha
        shapes = {"w": (words, dim), "c": (words, dim), "b": (words,), "d": (words,)}
        draw = {name: ((rng.random(shape) - 0.5) / dim).astype(dtype) for name, shape in shapes.items()}
        self.w, self.c, self.b, self.d = (Parameter(a) for a in draw.values())

    def loss(self, i: np.ndarray, j: np.ndarray, x: np.ndarray) -> Tensor:
        x = np.asarray(x, self.w.dtype)
        f = Tensor(np.minimum(1, (x / self.x_max) ** self.alpha).astype(x.dtype))
        products = ops.sum(ops.embedding(self.w, i) * ops.embedding(self.c, j), -1)
        error = products + ops.embedding(self.b, i) + ops.embedding(self.d, j) - Tensor(np.log(x))  # (N,)
        return ops.sum(f * error * error) * 0.5

    def vectors(self) -> np.ndarray:
        """w + c (V, D)."""
        return self.w.numpy() + self.c.numpy()


def draw_kernel(ij, xs, first, last, turned, seed, i, j, x):
    """The pairs first .. last in an order drawn by ``seed``, as records; gives their number. ``turned``: the other way
    round, without pairs of a word with itself, which have but one."""
    n = 0
    for k in range(first, last):
        a, b = ij[4 * k + turned], ij[4 * k + 1 - turned]
        if turned == 0 or a != b:
            r = below(stirred((seed + np.uint64(k)) * np.uint64(0x9E3779B97F4A7C15)), n + 1)
            i[n], j[n], x[n] = i[r], j[r], x[r]
            i[r], j[r], x[r] = a, b, xs[2 * k + 1]
            n += 1
    return n


def glove_kernel(i, j, x, w, c, b, d, sw, sc, sb, sd, width, settings, cost):
    """A step of each record, as the authors' program makes it; adds J to ``cost``.

    With gradient g of a parameter and s = the sum of (lr g)^2 of all steps before: p -= lr g / sqrt(1 + s).
    """
    x_max, alpha, lr, bias_lr = settings[0], settings[1], settings[2], settings[3]
    for r in range(i.size):
        low, high, to, end = i[r] * width, (i[r] + 1) * width, j[r] * width, (j[r] + 1) * width
        w_i, s_i, c_j, s_j = w[low:high], sw[low:high], c[to:end], sc[to:end]
        product = 0.0
        for k in range(width):
            product = fast_add(product, w_i[k] * c_j[k])
        error = product + b[i[r]] + d[j[r]] - log(x[r])
        f = 1.0 if x[r] >= x_max else exp(alpha * log(x[r] / x_max))
        cost[0] += 0.5 * f * error * error
        g = lr * f * error
        for k in range(width):
            to_w, to_c = g * c_j[k], g * w_i[k]
            w_i[k] -= to_w / sqrt(1.0 + s_i[k])
            c_j[k] -= to_c / sqrt(1.0 + s_j[k])
            s_i[k] += to_w * to_w
            s_j[k] += to_c * to_c
        g = bias_lr * f * error
        b[i[r]] -= g / sqrt(1.0 + sb[i[r]])
        d[j[r]] -= g / sqrt(1.0 + sd[j[r]])
        sb[i[r]] += g * g
        sd[j[r]] += g * g


_DRAW, _STEP = Kernel(draw_kernel), Kernel(glove_kernel)


class GloVeTraining(Hogwild):
    """AdaGrad over the records of ``counts``, in an order drawn anew in each epoch; ``for report in training`` does it.

    Each parameter's own rate is lr / sqrt(1 + the sum of (lr g)^2 so far), without the gradient g of now, as in the
    authors' program. With one thread, one seed repeats a run.

    bias_lr: the rate of the biases; lr if it is None. The authors' program of today has 1, since it clips gradients.

    >>> counts = count(np.array([0, 1, 2, 0, 1] * 20, np.int32), words=3, window=2)
    >>> training = GloVeTraining(counts, dim=4, epochs=2, x_max=10)
    >>> [(report.epoch, report.done, report.total) for report in training]
    [(1, 8, 8), (2, 8, 8)]
    >>> training.vectors().shape, training.losses[1] < training.losses[0]
    ((3, 4), True)
    """

    def __init__(self, counts: Counts, dim: int = 100, epochs: int = 25, *, threads: int = 1, lr: float = 0.05,
                 bias_lr: float | None = None, x_max: float = 100.0, alpha: float = 0.75, seed: int = 1,
                 dtype: Any = np.float32):  # fmt: skip
        if len(counts.pairs) == counts.same:
            got = "one word, next to itself" if counts.same else "no words next to each other"
            raise UserError(describe("GloVe", got, "two different words at least", "use a longer text"))
        for name, number in {"dim": dim, "threads": threads, "lr": lr, "x_max": x_max}.items():
            if not 0 < number < np.inf:
                raise UserError(describe("GloVe", f"{name} {number}", "a number above 0"))
        super().__init__(epochs, threads)
        self.counts, self.seed, self.total = counts, seed, len(counts)
        self.model = GloVe(counts.words, dim, x_max=x_max, alpha=alpha, generator=seed, dtype=dtype)
        self.settings = np.array([x_max, alpha, lr, lr if bias_lr is None else bias_lr], dtype)
        self.arrays = {name: p.numpy().copy() for name, p in self.model.named_parameters()}
        for name, p in self.model.named_parameters():
            p.data = self.arrays[name]  # which the kernel changes
        self.arrays |= {f"squares.{name}": np.zeros_like(a) for name, a in self.arrays.items()}

    def tasks(self) -> list[tuple[int, int, np.uint64]]:
        """Blocks of this epoch in their order: the first pair, whether pairs are turned round, a seed."""
        rng = np.random.default_rng([self.seed, len(self.losses)])
        blocks = -(-len(self.counts.pairs) // BLOCK)
        order, seeds = rng.permutation(2 * blocks), rng.integers(2**63, size=2 * blocks).astype(np.uint64)
        return [(int(k) // 2 * BLOCK, int(k) % 2, seed) for k, seed in zip(order, seeds)]

    def _records(self, task: tuple[int, int, np.uint64]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first, turned, seed = task
        pairs = self.counts.pairs[first : first + BLOCK]
        i, j = np.empty((2, len(pairs)), np.int64)
        x = np.empty(len(pairs), self.settings.dtype)
        n = _DRAW[x.dtype](pairs.view(np.int32), pairs.view(np.float64), 0, len(pairs), turned, seed, i, j, x)
        return i[:n], j[:n], x[:n]

    def records(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """i, j, x of this epoch, block by block, in the order of one thread."""
        return map(self._records, self.tasks())

    def run(self, task: tuple[int, int, np.uint64]) -> tuple[int, float, int]:
        i, j, x = self._records(task)
        cost = np.zeros(1)
        flat = [a.ravel() for a in self.arrays.values()]
        _STEP[x.dtype](i, j, x, *flat, self.model.w.shape[1], self.settings, cost)
        return len(i), float(cost[0]), len(i)

    def vectors(self) -> np.ndarray:
        """w + c (V, D)."""
        return self.model.vectors()


def train_glove(counts: Counts, dim: int = 100, epochs: int = 25, *, progress: Callable[[Report], None] | None = None,
                **options: Any) -> np.ndarray:  # fmt: skip
    """Vectors w + c (V, D) of all epochs; the options are those of ``GloVeTraining``.

    >>> train_glove(count(np.array([0, 1, 2, 0, 1], np.int32), words=3), dim=4, epochs=3).shape
    (3, 4)
    """
    training = GloVeTraining(counts, dim, epochs, **options)
    for report in training:
        if progress:
            progress(report)
    return training.vectors()
