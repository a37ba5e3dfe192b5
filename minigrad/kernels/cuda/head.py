"""Floor 2, CUDA: the loss of a linear layer over many classes, and its gradients, a block of rows at a time.

As on the CPU: the logits of a block (rows, V) are made, turned into losses and in place into their gradient, used for
the gradients of the inputs, and overwritten by those of the next block, so that they never exist whole.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: F821   (T, INF: the prelude of the kernel's dtype)

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

import numpy as np

from minigrad.kernels.cuda import move
from minigrad.kernels.cuda.device import Array, Device
from minigrad.kernels.cuda.kernel import Kernel
from minigrad.kernels.cuda.language import cuda
from minigrad.kernels.cuda.matmul import product_into
from minigrad.kernels.cuda.reduce import join_block, reduce


def head_kernel(z, bias, targets, weights, losses, smoothing, classes, biased, gradient):
    """losses[i] = weights[i] (log sum e^z - sum_k q_k z_k), q the smoothed target; z becomes the gradient of it. A
    block for each row."""
    largest, sums, ways = cuda.shared.array(32, T), cuda.shared.array(32, T), cuda.shared.array(32, T)
    i, step = cuda.blockIdx.x, cuda.blockDim.x
    first, end = i * classes + cuda.threadIdx.x, (i + 1) * classes
    target, weight = i * classes + targets[i], weights[i]
    m, k = -INF, first
    while k < end:
        y = z[k]
        if biased:
            y += bias[k - i * classes]
            z[k] = y
        m = y if y > m else m
        k += step
    m = join_block(m, largest, 1)  # a barrier: all of the row is there
    if m == -INF or m == INF:  # as in row_logsumexp
        m = 0.0
    at, total, away, k = z[target] - m, 0.0, 0.0, first
    while k < end:
        y = z[k] - m
        total += exp(y)
        away += y
        k += step
    total = join_block(total, sums, 0)
    away = join_block(away, ways, 0)
    if cuda.threadIdx.x == 0:
        loss = log(total) - at
        if smoothing != 0.0:
            loss = (1.0 - smoothing) * loss + smoothing * (log(total) - away / T(classes))
        losses[i] = weight * loss if weight != 0.0 else 0.0
    if gradient:
        scale, share, k = weight / total, weight * smoothing / T(classes), first
        hit = weight * (1.0 - smoothing)
        while k < end:
            y = exp(z[k] - m) * scale - share
            z[k] = y - hit if k == target else y
            k += step


_ROWS = Kernel(head_kernel, "T* T* i8* T* T* T i8 i8 i8")
_ELEMENTS, _ROWS_AT_LEAST = 2**23, 256  # of a block, 32 MiB of float32: less than the L2 cache of an A100 or H100


def linear_cross_entropy(
    device: Device, x: Array, w: Array, bias: Array | None, targets: np.ndarray, weights: np.ndarray, smoothing: float,
    wanted: Sequence[bool],
) -> tuple[Array, list[Array | None]]:  # fmt: skip
    """Losses (N,), each times its weight, for x (N, H), w (V, H), bias (V,), targets (N,); and the gradients of their
    sum by x, w and bias, those that are ``wanted``. Targets and weights are arrays of the host."""
    (n, h), v, dtype = x.shape, len(w), x.dtype
    losses, at, weights = device.empty((n,), dtype), device.put(targets), device.put(weights)
    b = device.empty((0,), dtype) if bias is None else move.contiguous(device, bias)
    dx = device.empty((n, h), dtype) if wanted[0] else None
    dw = (device.empty((v, h), dtype) if n else move.full(device, (v, h), 0, dtype)) if wanted[1] else None
    db = [move.full(device, (1, v), 0, dtype)] if not n else []
    blocks = -(-n // max(_ROWS_AT_LEAST, _ELEMENTS // v))
    room = device.empty((-(-n // max(blocks, 1)), v), dtype)
    for i in range(blocks):
        rows = slice(n * i // blocks, n * (i + 1) // blocks)
        z, part = room.cut((slice(rows.stop - rows.start),)), x.cut((rows,))
        product_into(device, z, part, w.transpose((1, 0)))
        device.launch(_ROWS, dtype, len(z), z, b, at.cut((rows,)), weights.cut((rows,)), losses.cut((rows,)),
                      dtype.type(smoothing), v, int(bias is not None), int(any(wanted)))  # fmt: skip
        if dx is not None:
            product_into(device, dx.cut((rows,)), z, w)
        if dw is not None:
            product_into(device, dw, z.transpose((1, 0)), part, i > 0)
        if wanted[2]:
            db.append(reduce(device, "sum", z, (0,)))
    total = None
    if wanted[2]:
        columns = db[0] if len(db) == 1 else reduce(device, "sum", move.concatenate(device, db, 0), (0,))
        total = move.reshape(device, columns, (v,))
    return losses, [dx, dw, total]
