"""Floor 1: every elementwise operation as a plain function of floats.

This file is the single definition: the CPU and the GPU kernels are compiled from this text. It may
import only ``math``; each target replaces the names imported here by its own primitives (on the CPU
those of ``kernels/cpu/primitives.py``, written so that they vectorise). A float literal takes the
dtype of the kernel, so one text serves float32 and float64. Run as it stands, it is ordinary Python.
"""

from math import copysign, cos, erf, exp, expm1, fabs, log, log1p, sin, sqrt

# ---------------------------------------------------------------------------------- arithmetic


def add(x, y):
    return x + y


def sub(x, y):
    return x - y


def mul(x, y):
    return x * y


def div(x, y):
    return x / y


def neg(x):
    return -x


def reciprocal(x):
    return 1.0 / x


def square(x):
    return x * x


def pow(x, y):
    """x**y: exp(y log|x|), with the sign of odd powers; exact for y = 0, 1, 2."""
    if y == 0.0:
        return 1.0
    if y == 1.0:
        return x
    if y == 2.0:
        return x * x
    return x**y


# ---------------------------------------------------------------------------------- exponentials


def sigmoid(x):
    return 1.0 / (1.0 + exp(-x))


def tanh(x):
    """By expm1 of twice the magnitude: accurate near 0, never overflows."""
    t = expm1(2.0 * (20.0 if fabs(x) > 20.0 else fabs(x)))
    return copysign(t / (t + 2.0), x)


def softplus(x):
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|)."""
    return (0.0 if x <= 0.0 else x) + log1p(exp(-fabs(x)))


# ---------------------------------------------------------------------------------- with kinks


def relu(x):
    return 0.0 if x <= 0.0 else x


def step(x):
    """Derivative of relu, with step(0) = 0."""
    return 1.0 if x > 0.0 else 0.0


def abs(x):
    return fabs(x)


def sign(x):
    return 1.0 if x > 0.0 else (-1.0 if x < 0.0 else 0.0 * x)


def maximum(x, y):
    """NaN wins, as in NumPy."""
    return x if (x >= y or x != x) else y


def minimum(x, y):
    return x if (x <= y or x != x) else y


def where(c, x, y):
    return x if c else y


def share(x, y):
    """Share of x in the gradient of maximum(x, y): 1 if larger, 1/2 in a tie, else 0."""
    return 1.0 if x > y else (0.5 if x == y else 0.0)


# ---------------------------------------------------------------------------------- others


def gelu(x):
    """x Phi(x), Phi the normal distribution function (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * (1.0 + erf(x * 0.7071067811865476))


# ---------------------------------------------------------------------------------- comparisons


def equal(x, y):
    return x == y


def not_equal(x, y):
    return x != y


def less(x, y):
    return x < y


def less_equal(x, y):
    return x <= y


def greater(x, y):
    return x > y


def greater_equal(x, y):
    return x >= y
