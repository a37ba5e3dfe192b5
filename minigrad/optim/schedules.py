"""Floor 5: learning-rate schedules: functions of the progress of training, as factors of the rate.

``optimizer.lr = rate * schedule(step)``. They are plain functions, so they nest: ``warmup(100, cosine(1000))``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from minigrad.errors import describe

Schedule = Callable[[float], float]


def _positive(where: str, steps: float) -> None:
    if not steps > 0:
        raise ValueError(describe(where, f"{steps} steps", "a positive number"))


def constant() -> Schedule:
    """1."""
    return lambda step: 1.0


def step_decay(every: float, factor: float) -> Schedule:
    """factor^floor(step / every)."""
    _positive("step_decay", every)
    return lambda step: factor ** (step // every)


def exponential(factor: float) -> Schedule:
    """factor^step."""
    return lambda step: factor**step


def inverse_sqrt(steps: float) -> Schedule:
    """1 for ``steps`` steps, then sqrt(steps / step)."""
    _positive("inverse_sqrt", steps)
    return lambda step: min(1.0, (steps / max(step, 1e-12)) ** 0.5)


def cosine(steps: float, floor: float = 0.0) -> Schedule:
    """From 1 to ``floor`` along half a cosine over ``steps`` steps, then ``floor`` (Loshchilov and Hutter 2017).

    >>> [round(cosine(10)(s), 2) for s in (0, 5, 10, 20)]
    [1.0, 0.5, 0.0, 0.0]
    """
    _positive("cosine", steps)
    return lambda step: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(max(step / steps, 0.0), 1.0)))


def warmup(steps: float, then: Schedule | None = None) -> Schedule:
    """Linear from 0 to 1 over ``steps`` steps, times ``then``.

    >>> [warmup(4)(s) for s in (0, 1, 4, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """
    after = then or constant()
    return lambda step: min(1.0, step / steps if steps else 1.0) * after(step)
