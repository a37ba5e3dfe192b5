"""Floor 4: the elementwise operations, one record each: equation, scalar function, gradient rule, oracle, domain.

Rules take ``(g, y, x)`` or ``(g, y, a, b)``: cotangent, result, inputs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad import scalars
from minigrad.engine import Tensor, apply, constant
from minigrad.ops.record import POSITIVE, REAL, _public, binary, case, elementwise, operation, unary

NONZERO = (0.3, 3.0)
_erf = np.vectorize(math.erf, otypes=[float])

# ------------------------------------------------------------------------------------------------ without gradient

equal = binary("equal", "a = b", scalars.equal, None, np.equal, out="bool")
not_equal = binary("not_equal", "a != b", scalars.not_equal, None, np.not_equal, out="bool")
less = binary("less", "a < b", scalars.less, None, np.less, out="bool")
less_equal = binary("less_equal", "a <= b", scalars.less_equal, None, np.less_equal, out="bool")
greater = binary("greater", "a > b", scalars.greater, None, np.greater, out="bool")
greater_equal = binary("greater_equal", "a >= b", scalars.greater_equal, None, np.greater_equal, out="bool")
sign = unary("sign", "-1, 0 or 1", scalars.sign, None, np.sign, smooth=False)
step = unary("step", "1 where x > 0, else 0", scalars.step, None, lambda x: (x > 0) * 1.0, smooth=False)
share = binary("share", "1 where a > b, 1/2 where a = b, else 0", scalars.share, None,
               lambda a, b: np.heaviside(a - b, 0.5), smooth=False)  # fmt: skip

# ------------------------------------------------------------------------------------------------ arithmetic

add = binary("add", "a + b", scalars.add, (lambda g, y, a, b: g, lambda g, y, a, b: g), np.add)
neg = unary("neg", "-x", scalars.neg, lambda g, y, x: neg(g), np.negative, floats=False)
sub = binary("sub", "a - b", scalars.sub, (lambda g, y, a, b: g, lambda g, y, a, b: neg(g)), np.subtract)
mul = binary("mul", "a b", scalars.mul, (lambda g, y, a, b: mul(g, b), lambda g, y, a, b: mul(g, a)), np.multiply)
div = binary("div", "a / b", scalars.div, (lambda g, y, a, b: div(g, b), lambda g, y, a, b: neg(div(mul(g, y), b))),
             np.divide, (REAL, NONZERO), floats=True)  # fmt: skip
reciprocal = unary("reciprocal", "1 / x", scalars.reciprocal, lambda g, y, x: neg(mul(g, mul(y, y))), np.reciprocal,
                   NONZERO)  # fmt: skip
square = unary("square", "x^2", scalars.square, lambda g, y, x: mul(mul(g, x), 2.0), np.square)


def _where_vjp(g: Any, y: Any, c: Any, a: Any, b: Any) -> Any:
    return where(c, g, 0.0)


def _power_a(g: Any, y: Any, a: Any, b: Any) -> Any:
    """g b a^(b-1), and 0 where b = 0."""
    return where(equal(b, 0.0), 0.0, mul(mul(g, b), power(a, sub(b, 1.0))))


def _power_b(g: Any, y: Any, a: Any, b: Any) -> Any:
    """g a^b log a, and 0 where a <= 0."""
    return mul(mul(g, y), log(where(greater(a, 0.0), a, 1.0)))


power = binary("power", "a^b", scalars.pow, (_power_a, _power_b), np.power, (POSITIVE, REAL), floats=True)

# ------------------------------------------------------------------------------------------------ exponentials

exp = unary("exp", "e^x", scalars.exp, lambda g, y, x: mul(g, y), np.exp)
expm1 = unary("expm1", "e^x - 1", scalars.expm1, lambda g, y, x: mul(g, add(y, 1.0)), np.expm1)
log = unary("log", "log x", scalars.log, lambda g, y, x: div(g, x), np.log, POSITIVE)
log1p = unary("log1p", "log(1 + x)", scalars.log1p, lambda g, y, x: div(g, add(x, 1.0)), np.log1p, (-0.7, 3.0))
sqrt = unary("sqrt", "x^(1/2)", scalars.sqrt, lambda g, y, x: div(mul(g, 0.5), y), np.sqrt, POSITIVE)
tanh = unary("tanh", "tanh x", scalars.tanh, lambda g, y, x: mul(g, sub(1.0, mul(y, y))), np.tanh)
sigmoid = unary("sigmoid", "1 / (1 + e^-x)", scalars.sigmoid, lambda g, y, x: mul(g, mul(y, sub(1.0, y))),
                lambda x: 1 / (1 + np.exp(-x)))  # fmt: skip
softplus = unary("softplus", "log(1 + e^x)", scalars.softplus, lambda g, y, x: mul(g, sigmoid(x)),
                 lambda x: np.logaddexp(0, x))  # fmt: skip
sin = unary("sin", "sin x", scalars.sin, lambda g, y, x: mul(g, cos(x)), np.sin)
cos = unary("cos", "cos x", scalars.cos, lambda g, y, x: neg(mul(g, sin(x))), np.cos)
erf = unary("erf", "2/sqrt(pi) integral of e^(-t^2) from 0 to x", scalars.erf,
            lambda g, y, x: mul(g, mul(exp(neg(mul(x, x))), 1.1283791670955126)), _erf)  # fmt: skip


def _gelu_vjp(g: Any, y: Any, x: Any) -> Any:
    """g (Phi(x) + x phi(x))."""
    cdf = mul(add(erf(mul(x, 0.7071067811865476)), 1.0), 0.5)
    pdf = mul(exp(mul(mul(x, x), -0.5)), 0.3989422804014327)
    return mul(g, add(cdf, mul(x, pdf)))


gelu = unary("gelu", "x Phi(x), Phi the normal distribution function", scalars.gelu, _gelu_vjp,
             lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))))  # fmt: skip

# ------------------------------------------------------------------------------------------------ with kinks

relu = unary("relu", "max(x, 0); relu'(0) = 0", scalars.relu, lambda g, y, x: mul(g, step(x)),
             lambda x: np.maximum(x, 0), smooth=False)  # fmt: skip
abs = unary("abs", "|x|; abs'(0) = 0", scalars.abs, lambda g, y, x: mul(g, sign(x)), np.abs, smooth=False)
maximum = binary("maximum", "max(a, b); a tie shares the gradient", scalars.maximum,
                 (lambda g, y, a, b: mul(g, share(a, b)), lambda g, y, a, b: mul(g, share(b, a))), np.maximum,
                 smooth=False)  # fmt: skip
minimum = binary("minimum", "min(a, b); a tie shares the gradient", scalars.minimum,
                 (lambda g, y, a, b: mul(g, share(b, a)), lambda g, y, a, b: mul(g, share(a, b))), np.minimum,
                 smooth=False)  # fmt: skip

_WHERE = elementwise("where", "a where c, else b", scalars.where, 3,
                     (None, _where_vjp, lambda g, y, c, a, b: where(c, 0.0, g)), np.where, floats=False,
                     condition=True)  # fmt: skip


def where(condition: Any, a: Any, b: Any) -> Tensor:
    if not isinstance(condition, Tensor):
        condition = constant("where", np.asarray(condition), next((x for x in (a, b) if isinstance(x, Tensor)), None))
    if not isinstance(a, Tensor):
        a = constant("where", a, b if isinstance(b, Tensor) else a)
    return apply(_WHERE, (condition, a, b if isinstance(b, Tensor) else constant("where", b, a)))


_MASK = np.array([[True, False, True]])
_public(where, _WHERE, "a where c, else b", np.where, (REAL, REAL, REAL),
        (case(_MASK, (2, 3), (2, 3)), case(_MASK, (2, 1), ()), case(_MASK[0], (1,), (4, 3))), True, True)  # fmt: skip


@operation("min(max(x, low), high)", lambda x, low, high: np.clip(x, low, high), case((3, 4), -1.0, 1.25),
           case((5,), (5,), 2.0), smooth=False, group="Elementwise")  # fmt: skip
def clip(x: Any, low: Any, high: Any) -> Tensor:
    """``min(max(x, low), high)``.

    >>> import minigrad as mg
    >>> mg.clip(mg.tensor([-2.0, 0.5, 2.0]), -1.0, 1.0)
    tensor([-1. ,  0.5,  1. ])
    """
    return minimum(maximum(x, low), high)


def pow(x: Any, p: Any) -> Tensor:
    """``x ** p`` of the operator: the powers 1, 2, 1/2 and -1 take their own operations."""
    if isinstance(p, (int, float)):
        if p == 1:
            return x
        for q, function in ((2, square), (0.5, sqrt), (-1, reciprocal)):
            if p == q:
                return function(x)
    return power(x, p)


__all__ = [
    "abs", "add", "clip", "cos", "div", "equal", "erf", "exp", "expm1", "gelu", "greater", "greater_equal", "less",
    "less_equal", "log", "log1p", "maximum", "minimum", "mul", "neg", "not_equal", "power", "reciprocal", "relu",
    "share", "sigmoid", "sign", "sin", "softplus", "sqrt", "square", "step", "sub", "tanh", "where",
]  # fmt: skip
