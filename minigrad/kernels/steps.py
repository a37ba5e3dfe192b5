"""Floor 2: the steps of the optimisers as plain functions of floats, the single definition for every target.

``p`` a parameter, ``g`` its gradient, then the optimiser's own numbers of it, then the settings, which are the same for
all parameters. Each gives the new parameter and its new own numbers.
"""

# mypy: disable-error-code="no-untyped-def"

from collections.abc import Callable
from math import sqrt


def sgd(p, g, m, lr, momentum, decay):
    """m = momentum m + g + decay p;  p -= lr m."""
    m = momentum * m + (g + decay * p)
    return p - lr * m, m


def adagrad(p, g, v, lr, eps, decay):
    """v += g^2;  p -= lr g / (sqrt(v) + eps)."""
    g = g + decay * p
    v = v + g * g
    return p - lr * g / (sqrt(v) + eps), v


def rmsprop(p, g, v, m, lr, alpha, eps, momentum, decay):
    """v = a v + (1 - a) g^2;  m = momentum m + g / (sqrt(v) + eps);  p -= lr m."""
    g = g + decay * p
    v = alpha * v + (1.0 - alpha) * g * g
    m = momentum * m + g / (sqrt(v) + eps)
    return p - lr * m, v, m


def adam(p, g, m, v, lr, b1, b2, eps, c1, c2, l2, decay):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p (1 - lr decay) - lr m' / (sqrt(v') + eps).

    m' = m / (1 - b1^t) and v' = v / (1 - b2^t) undo the start from zero; c1 and c2 are those factors.
    """
    g = g + l2 * p
    m = b1 * m + (1.0 - b1) * g
    v = b2 * v + (1.0 - b2) * g * g
    return p * (1.0 - lr * decay) - lr * (m * c1) / (sqrt(v * c2) + eps), m, v


def average(p, x, n):
    """The mean of n numbers, from that of n - 1 and the last: p += (x - p) / n."""
    return (p + (x - p) / n,)


OWN: dict[Callable, int] = {sgd: 1, adagrad: 1, rmsprop: 2, adam: 2, average: 0}  # numbers of each parameter
