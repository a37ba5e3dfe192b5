"""Floor 7: vectors put into the plane, to be drawn: PCA, and exact t-SNE (van der Maaten and Hinton 2008).

``divergence`` is the definition of what t-SNE makes small, in operations, so that ``mg.grad`` differentiates it.
``gradient`` is its derivative in closed form, in one pass over P without an (N, N) array of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.errors import UserError, describe
from minigrad.kernels.cpu.micro import fast_add
from minigrad.kernels.cpu.shared import Shared

MOST = 10_000  # points: P is (N, N)
MOMENTUM, GAIN_UP, GAIN_DOWN, LEAST_GAIN = (0.5, 0.8), 0.2, 0.8, 0.01


def _points(x: Any, dims: int, where: str) -> np.ndarray:
    """(N, D) float64 with its mean at zero and its largest number 1, so that no square overflows."""
    x = np.asarray(x)
    if x.ndim != 2 or not x.size or x.dtype.kind not in "fiu":
        raise UserError(describe(where, f"{x.dtype} of shape {x.shape}", "numbers (N, D), one row a point"))
    if not isinstance(dims, (int, np.integer)) or not 1 <= dims <= 3:
        raise UserError(describe(where, f"dims={dims!r}", "1, 2 or 3"))
    if not np.isfinite(x).all():
        raise UserError(describe(where, "NaN or infinite numbers", "finite ones"))
    x = x.astype(np.float64)
    x /= np.abs(x).max() or 1.0
    x -= x.mean(0)
    return x / (np.abs(x).max() or 1.0)


def pca(x: Any, dims: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Y = (X - mean) V, V the directions of most variance; and the share of the variance that each keeps.

    x (N, D); returns (N, dims) and (dims,). The entry of V that is largest without its sign is positive, so that a
    picture is not mirrored by chance. Where X has fewer directions than dims, the rest of Y is zero.

    >>> y, shares = pca([[0.0, 0.0], [2.0, 2.0], [4.0, 4.0]], dims=1)
    >>> y.round(3).ravel().tolist(), shares.round(3).tolist()
    ([-2.828, 0.0, 2.828], [1.0])
    """
    centred, exact = _points(x, dims, "pca"), np.asarray(x, np.float64)
    _, s, v = np.linalg.svd(centred, full_matrices=False)  # (K,), (K, D)
    v *= np.sign(v[np.arange(len(v)), np.abs(v).argmax(1)])[:, None]
    y, shares = np.zeros((len(centred), dims)), np.zeros(dims)
    kept = min(dims, len(s))
    y[:, :kept] = (exact - exact.mean(0)) @ v[:kept].T
    shares[:kept] = s[:kept] ** 2 / (np.sum(s**2) or 1.0)
    return y, shares


# ------------------------------------------------------------------------------------------------ affinities


def conditional(first, last, d, p, target, size):
    """Rows first .. last of p_j|i = exp(-beta_i d_ij) / sum over k of the same: beta_i by bisection, for the entropy.

    d_ij >= 0 are squared distances less the smallest of the row to another point; d_ii = 0.
    """
    for i in range(first, last):
        row, out = d[i * size : (i + 1) * size], p[i * size : (i + 1) * size]
        low, high, beta, total = 0.0, np.inf, 1.0, 1.0
        for _ in range(200):
            total, weighted = 0.0, 0.0
            for j in range(size):
                e = exp(max(-beta * row[j], -690.0))  # 1e-300; subnormal numbers are slow
                out[j] = e
                total = fast_add(total, e)
                weighted = fast_add(weighted, e * row[j])
            total -= 1.0  # the point itself; the nearest other counts 1 too
            excess = log(total) + beta * weighted / total - target[0]
            if abs(excess) < 1e-8 or beta > 1e30:  # beta has no end where more points are nearest than may be
                break
            if excess > 0.0:
                low = beta
                beta = 2.0 * beta if high == np.inf else 0.5 * (low + high)
            else:
                high = beta
                beta = 0.5 * (low + high)
        for j in range(size):
            out[j] /= total
        out[i] = 0.0


def affinities(x: Any, perplexity: float) -> np.ndarray:
    """p_ij = (p_j|i + p_i|j) / 2N, p_j|i ~ exp(-beta_i |x_i - x_j|^2), with e^entropy of each row = the perplexity.

    x (N, D); returns (N, N) float64, symmetric, with the sum 1 and zeros on its diagonal.

    >>> affinities([[0.0], [1.0], [5.0]], 1.5).sum().round(6).item()
    1.0
    """
    x = _points(x, 2, "t-SNE")
    n, squares = len(x), np.einsum("ij,ij->i", x, x)
    d = squares[:, None] + squares - 2 * (x @ x.T)  # (N, N)
    d[d < 1e-13 * squares.max(initial=0.0)] = 0.0  # the rounding of points that are the same
    np.fill_diagonal(d, np.inf)
    d -= d.min(1, keepdims=True)
    np.fill_diagonal(d, 0.0)
    d /= d.mean() or 1.0
    p = np.empty_like(d)
    _CONDITIONAL(p.dtype, n, p.size, d.ravel(), p.ravel(), np.array([log(perplexity)]), n)
    p += p.T.copy()
    p /= p.sum()
    p[p < 1e-30] = 0.0  # nothing in the sums, and subnormal in float32, where it is slow
    return p


# ------------------------------------------------------------------------------------------------ the divergence


def divergence(p: Any, y: Any) -> mg.Tensor:
    """KL(P || Q) = sum p_ij log(p_ij / q_ij), with q_ij = w_ij / sum w and w_ij = 1 / (1 + |y_i - y_j|^2), w_ii = 0.

    p (N, N) with the sum 1 and zeros on its diagonal, y (N, dims); equations 4 and 5 of van der Maaten and Hinton
    (2008), written as sum p log p - sum p log w + log sum w.

    >>> p = np.array([[0.0, 0.5], [0.5, 0.0]])
    >>> round(divergence(p, np.array([[0.0, 0.0], [3.0, 4.0]])).item(), 6)
    0.0
    """
    p = np.asarray(p)
    some = p[p > 0]
    others = 1 - np.eye(len(p), dtype=p.dtype)
    d = mg.square(mg.expand_dims(y, 1) - mg.expand_dims(y, 0)).sum(2)  # (N, N)
    return (p * mg.log1p(d)).sum() + mg.log((others / (1 + d)).sum()) + float((some * np.log(some)).sum())


def forces(first, last, y, p, pull, push, weight, size):
    """Of points first .. last: pull_i = sum_j p_ij w_ij (y_i - y_j), push_i with w_ij for p_ij, weight_i = sum_j w_ij.

    y, pull and push (3, size), one after the other; points of the plane have a third coordinate of zero.
    """
    y0, y1, y2 = y[:size], y[size : 2 * size], y[2 * size : 3 * size]
    for i in range(first, last):
        whole, a0, a1, a2 = p[i * size : (i + 1) * size], y0[i], y1[i], y2[i]
        f0 = f1 = f2 = g0 = g1 = g2 = s = 0.0
        for side in range(2):
            low, high = (0, i) if side == 0 else (i + 1, size)
            row, b0, b1, b2 = whole[low:high], y0[low:high], y1[low:high], y2[low:high]
            for j in range(row.size):
                d0, d1, d2 = a0 - b0[j], a1 - b1[j], a2 - b2[j]
                w = 1.0 / (1.0 + d0 * d0 + d1 * d1 + d2 * d2)
                s = fast_add(s, w)
                u, v = row[j] * w, w * w
                f0, f1, f2 = fast_add(f0, u * d0), fast_add(f1, u * d1), fast_add(f2, u * d2)
                g0, g1, g2 = fast_add(g0, v * d0), fast_add(g1, v * d1), fast_add(g2, v * d2)
        pull[i], pull[size + i], pull[2 * size + i] = f0, f1, f2
        push[i], push[size + i], push[2 * size + i] = g0, g1, g2
        weight[i] = s


def logarithms(first, last, y, p, total, size):
    """Of points first .. last: total_i = sum_j p_ij log(1 + |y_i - y_j|^2); y (3, size)."""
    for i in range(first, last):
        s = 0.0
        for j in range(size):
            d0, d1, d2 = y[i] - y[j], y[size + i] - y[size + j], y[2 * size + i] - y[2 * size + j]
            s = fast_add(s, p[i * size + j] * log(1.0 + d0 * d0 + d1 * d1 + d2 * d2))
        total[i] = s


_CONDITIONAL, _FORCES, _LOGARITHMS = Shared(conditional), Shared(forces), Shared(logarithms)


def _descent(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """The gradient (3, N) at y (3, N), and sum w."""
    n = len(p)
    pull, push, weight = np.empty_like(y), np.empty_like(y), np.empty(n, y.dtype)
    _FORCES(y.dtype, n, p.size, y.ravel(), p.ravel(), pull.ravel(), push.ravel(), weight, n)
    z = float(weight.sum(dtype=np.float64))
    push *= 4 / z
    pull *= 4
    return np.subtract(pull, push, out=pull), z


def _flat(y: np.ndarray) -> np.ndarray:
    """(N, dims) as (3, N), what is missing zero."""
    flat = np.zeros((3, len(y)), y.dtype)
    flat[: y.shape[1]] = y.T
    return flat


def gradient(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """dKL / dy_i = 4 sum_j (p_ij - q_ij) w_ij (y_i - y_j), and KL: the derivative of ``divergence``, and its value.

    p (N, N), y (N, dims) of one dtype, N >= 2; returns (N, dims) and a number.

    >>> p, y = affinities([[0.0], [1.0], [5.0]], 1.5), np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> by_hand, value = gradient(p, y)
    >>> by_tape = mg.grad(lambda y: divergence(p, y))(y)
    >>> bool(np.allclose(by_hand, by_tape.numpy(), rtol=0, atol=1e-14)), abs(value - divergence(p, y).item()) < 1e-12
    (True, True)
    """
    flat, some, total = _flat(y), p[p > 0], np.empty(len(p), y.dtype)
    slope, z = _descent(p, flat)
    _LOGARITHMS(y.dtype, len(p), p.size, flat.ravel(), p.ravel(), total, len(p))
    value = float(total.sum(dtype=np.float64) + np.vdot(some, np.log(some))) + log(z)
    return slope[: y.shape[1]].T, value


def usual_perplexity(n: int) -> float:
    """30, or for n < 91 points a third of the others.

    >>> usual_perplexity(1000), usual_perplexity(13)
    (30.0, 4.0)
    """
    return min(30.0, max((n - 1) / 3, 1.0))


def tsne(x: Any, dims: int = 2, perplexity: float | None = None, steps: int = 1000, generator: Any = 0,
         exaggeration: float = 12.0, plain: bool = False,
         show: Callable[[float, str], None] | None = None) -> tuple[np.ndarray, float]:  # fmt: skip
    """Points whose neighbours are those of x: y that makes ``divergence(affinities(x, perplexity), y)`` small; and it.

    x (N, D); returns (N, dims) float32 and KL in nats. Every pair counts, so that time grows as N^2. Starts from PCA
    (Kobak and Berens 2019) with a little noise from the generator; for the first quarter of the steps P is multiplied
    by the exaggeration, then the momentum grows from 0.5 to 0.8. The rate is N / (4 exaggeration) (Belkina et al.
    2019).

    perplexity: about how many neighbours count  [default: ``usual_perplexity(N)``]
    plain: differentiate the definition, which is slower and needs memory for (N, N, dims)
    show: called with the share that is done and a text

    >>> y, kl = tsne(np.repeat(np.eye(3), 4, axis=0), perplexity=3)  # three places, four points in each
    >>> near = np.linalg.norm(y[:, None] - y, axis=2).argsort(1)[:, :4] // 4
    >>> bool((near == np.arange(12)[:, None] // 4).all())
    True
    """
    n = len(_points(x, dims, "t-SNE"))
    if n > MOST:
        raise UserError(describe("t-SNE", f"{n:,} points", f"{MOST:,} at most", "take fewer, or PCA"))
    highest = max(n - 1, 1)
    perplexity = usual_perplexity(n) if perplexity is None else perplexity
    if not 1 <= perplexity <= highest:
        do = "a third of that, or less, is usual"
        raise UserError(describe("t-SNE", f"perplexity {perplexity:g}", f"1 to {highest} for {n} points", do))
    if steps < 1 or not 1 <= exaggeration < np.inf:
        got = f"steps={steps}, exaggeration={exaggeration:g}"
        raise UserError(describe("t-SNE", got, "one step or more, and a factor of 1 or more"))
    if n == 1:
        return np.zeros((1, dims), np.float32), 0.0
    if show:
        show(0.0, "perplexities")
    p = affinities(x, perplexity)
    q = p.astype(np.float32)
    y = _start(x, dims, np.random.default_rng(generator))
    early, speed, gain = steps // 4, np.zeros_like(y), np.ones_like(y)
    rate = n / (4 * exaggeration)
    q *= exaggeration if early else 1
    for step in range(steps):
        if step == early and early:
            q = p.astype(np.float32)
        g = _flat(mg.grad(lambda y: divergence(q, y))(y[:dims].T).numpy()) if plain else _descent(q, y)[0]
        against = (g > 0) != (speed > 0)
        gain = np.maximum(np.where(against, gain + GAIN_UP, gain * GAIN_DOWN), LEAST_GAIN)
        speed = MOMENTUM[step >= early] * speed - rate * gain * g
        y += speed
        y -= y.mean(1, keepdims=True)
        if show and step % 50 == 0:
            show(step / steps, f"step {step} of {steps}")
    y = np.ascontiguousarray(y[:dims].T)
    return y, gradient(p, y.astype(np.float64))[1]


def _start(x: Any, dims: int, generator: np.random.Generator) -> np.ndarray:
    """(3, N) float32: PCA with a deviation of 1e-4, and noise of 1e-6, which parts points that are the same."""
    y = pca(x, dims)[0]
    y /= np.abs(y).max() or 1.0
    y = y / (y.std(0)[0] or 1.0) + 0.01 * generator.standard_normal(y.shape)
    return _flat((1e-4 * y).astype(np.float32))
