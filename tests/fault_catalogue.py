"""Planted faults in gradients, each with the cause that a report should name. NumPy alone is needed to read this.

``rule``: an operation with gradient rules written in a module m (minigrad, NumPy or torch), to be checked as an
operation of minigrad. ``vjp`` and ``saved``: arrays in, arrays out, to be checked with ``check_vjp``.
The causes were written down with the faults, before the first run.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import hand_written as by_hand
import numpy as np

RNG = np.random.default_rng(0)
X, Y = RNG.uniform(0.5, 1.5, (3, 4)), RNG.uniform(0.5, 1.5, (3, 4))
A, C = RNG.uniform(0.5, 1.5, (3, 3)), RNG.uniform(0.5, 1.5, (3, 3))
LONG = RNG.uniform(0.5, 1.5, 35)
TIES = np.array([[1.0, 0.5, 1.0], [0.2, 0.7, 0.7]])


class Fault(NamedTuple):
    name: str
    cause: str
    kind: str
    make: Callable[[], tuple[Any, Any]]  # forward and backward (or m -> rules), fresh for every check
    inputs: list
    order: int = 1


FAULTS: list[Fault] = []


def rule(name, cause, forward, rules, *inputs, order=1):
    FAULTS.append(Fault(name, cause, "rule", lambda: (forward, rules), list(inputs), order))


def vjp(name, cause, forward, backward, *inputs):
    FAULTS.append(Fault(name, cause, "vjp", lambda: (forward, backward), list(inputs)))


def fresh(name, cause, make, *inputs, kind="vjp"):
    FAULTS.append(Fault(name, cause, kind, make, list(inputs)))


def recurrent(cell, faults):
    forward, backward = getattr(by_hand, cell), getattr(by_hand, f"{cell}_backward")
    inputs = getattr(by_hand, cell.upper())
    for fault, cause in faults.items():
        FAULTS.append(
            Fault(f"{cell}: {fault}", cause, "saved", lambda f=fault: (forward, partial(backward, fault=f)), inputs)
        )


def softmax(x):
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True)


# ------------------------------------------------------------------------------------ rules of operations
# fmt: off

rule("sin, 0.05 % too large", "factor", np.sin, lambda m: (lambda g, y, x: g * m.cos(x) * 1.0005,), X)
rule("sin, twice", "factor", np.sin, lambda m: (lambda g, y, x: g * m.cos(x) * 2.0,), X)
rule("exp, half", "factor", np.exp, lambda m: (lambda g, y, x: g * y * 0.5,), X)
rule("square without its 2", "factor", np.square, lambda m: (lambda g, y, x: g * x,), X)
rule("mean without its 1/n", "factor", lambda x: x.mean(-1, keepdims=True), lambda m: (lambda g, y, x: g + 0.0 * x,), X)
rule("sum as a mean", "factor", lambda x: x.sum(-1, keepdims=True), lambda m: (lambda g, y, x: (g + 0.0 * x) / 4.0,), X)
rule("second operand of a product", "factor", np.multiply,
     lambda m: (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a * 1.0005), X, Y)
rule("softmax, twice", "factor", softmax,
     lambda m: (lambda g, y, x: 2.0 * y * (g - (g * y).sum(-1, keepdims=True)),), X)
rule("cos", "sign", np.cos, lambda m: (lambda g, y, x: g * m.sin(x),), X)
rule("subtract", "sign", np.subtract, lambda m: (lambda g, y, a, b: g * 1.0, lambda g, y, a, b: g * 1.0), X, Y)
rule("divide", "sign", np.divide, lambda m: (lambda g, y, a, b: g / b, lambda g, y, a, b: g * a / (b * b)), X, Y)
rule("x sin x without x cos x", "term", lambda x: x * np.sin(x), lambda m: (lambda g, y, x: g * m.sin(x),), X)
rule("a b + a without the 1", "term", lambda a, b: a * b + a,
     lambda m: (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a), X, Y)
rule("tanh by 1 - y", "term", np.tanh, lambda m: (lambda g, y, x: g * (1.0 - y),), X)
rule("divide by b, not its square", "term", np.divide,
     lambda m: (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * a / b), X, Y)
rule("softmax without its sum", "term", softmax, lambda m: (lambda g, y, x: g * y,), X)
rule("sin x + 0.0005 x, second term reversed", "term", lambda x: np.sin(x) + 0.0005 * x,
     lambda m: (lambda g, y, x: g * (m.cos(x) - 0.0005),), X)
rule("factors exchanged", "exchanged", np.multiply,
     lambda m: (lambda g, y, a, b: g * a, lambda g, y, a, b: g * b), X, Y)
rule("softmax over the other axis", "axis", softmax,
     lambda m: (lambda g, y, x: y * (g - (g * y).sum(0, keepdims=True)),), X)
rule("centring over the other axis", "axis", lambda x: x - x.mean(-1, keepdims=True),
     lambda m: (lambda g, y, x: g - g.sum(0, keepdims=True) / 3.0,), X)
rule("matrix product, right factor not transposed", "transposition", np.matmul,
     lambda m: (lambda g, y, a, b: g @ b, lambda g, y, a, b: a.T @ g), A, C)
rule("matrix product, left factor not transposed", "transposition", np.matmul,
     lambda m: (lambda g, y, a, b: g @ b.T, lambda g, y, a, b: a @ g), A, C)
rule("matrix product, gradient transposed", "transposition", np.matmul,
     lambda m: (lambda g, y, a, b: g @ b.T, lambda g, y, a, b: g.T @ a), A, C)
rule("transpose passed on as it is", "transposition", lambda x: x.T * 1.0, lambda m: (lambda g, y, x: g * 1.0,), A)
rule("reshaped for transposed", "transposition", lambda x: x.T * 1.0,
     lambda m: (lambda g, y, x: (g * 1.0).reshape(3, 4),), X)
rule("reversal passed on as it is", "transposition", lambda x: x[::-1] * 1.0, lambda m: (lambda g, y, x: g * 1.0,), X)
rule("no gradient", "zero", np.sin, lambda m: (lambda g, y, x: g * 0.0,), X)
rule("second operand without gradient", "zero", np.multiply,
     lambda m: (lambda g, y, a, b: g * b, lambda g, y, a, b: g * 0.0), X, Y)
rule("cotangent forgotten", "cotangent", np.sin, lambda m: (lambda g, y, x: m.cos(x) + 0.0 * g,), X)
rule("cotangent squared", "cotangent", np.sin, lambda m: (lambda g, y, x: g * g * m.cos(x),), X)
rule("one repeated row left out", "unbroadcast", np.multiply,
     lambda m: (lambda g, y, a, b: (g * b).sum(0, keepdims=True) - (g * b)[:1], lambda g, y, a, b: g * a), X[:1], Y)
rule("one repeated row in part", "unbroadcast", np.multiply,
     lambda m: (lambda g, y, a, b: (g * b).sum(0, keepdims=True) - 0.0005 * (g * b)[:1],
                lambda g, y, a, b: g * a), X[:1], Y)
rule("only the first repeated row", "unbroadcast", np.multiply,
     lambda m: (lambda g, y, a, b: (g * b)[:1] * 1.0, lambda g, y, a, b: g * a), X[:1], Y)
rule("max gives all to every tie", "ties", lambda x: x.max(-1, keepdims=True),
     lambda m: (lambda g, y, x: m.where(x >= y, g + 0.0 * x, 0.0 * x),), TIES)
rule("max gives nothing at ties", "ties", lambda x: x.max(-1, keepdims=True), lambda m: (
    lambda g, y, x: m.where(x >= y, g + 0.0 * x, 0.0 * x)
    * m.where(m.where(x >= y, 1.0 + 0.0 * x, 0.0 * x).sum(-1, keepdims=True) > 1.5, 0.0 * y, 1.0 + 0.0 * y),), TIES)
rule("maximum gives both at ties", "ties", np.maximum,
     lambda m: (lambda g, y, a, b: m.where(a >= b, g, 0.0 * g), lambda g, y, a, b: m.where(b >= a, g, 0.0 * g)),
     TIES[0], np.array([1.0, 0.7, 0.2]))
rule("abs at 0 is 3", "ties", np.abs, lambda m: (
    lambda g, y, x: g * m.where(x > 0, 1.0 + 0.0 * x, m.where(x < 0, -1.0 + 0.0 * x, 3.0 + 0.0 * x)),),
    np.array([0.0, 0.5, -0.7]))
rule("centring leaves size one alone", "size one", lambda x: x - x.mean(0, keepdims=True),
     lambda m: (lambda g, y, x: g * 1.0 if x.shape[0] == 1 else g - g.sum(0, keepdims=True) / x.shape[0],), X[:1])
rule("one row counts twice", "size one", np.sin,
     lambda m: (lambda g, y, x: g * m.cos(x) * (2.0 if x.shape[0] == 1 else 1.0),), X[:1])
rule("sin, second derivative cut off", "second derivative", np.sin,
     lambda m: (lambda g, y, x: g * m.cos(x.detach()),), X, order=2)
rule("exp, the result taken for a constant", "second derivative", np.exp,
     lambda m: (lambda g, y, x: g * y.detach(),), X, order=2)
rule("sin, cut off in part", "second derivative", np.sin,
     lambda m: (lambda g, y, x: g * (0.9995 * m.cos(x) + 0.0005 * m.cos(x.detach())),), X, order=2)
rule("product, one operand cut off", "second derivative", np.multiply,
     lambda m: (lambda g, y, a, b: g * b.detach(), lambda g, y, a, b: g * a), X, Y, order=2)

# fmt: on
# ---------------------------------------------------------------------------------- arrays in, arrays out


def some(forward, wrong, right=np.cos, start=0, stop=None, step=1):
    """The gradient of an elementwise function, with some elements of it wrong by a factor."""

    def backward(g, x):
        d = g * right(x)
        d[..., start:stop:step] *= wrong
        return d

    return forward, backward


def in_place_g(g, x):
    g *= np.cos(x)
    return g.copy()


def in_place_x(g, x):
    np.cos(x, out=x)
    return g * x


def in_place_forward(x):
    x -= x.max(-1, keepdims=True)
    return np.exp(x)


def to_one_buffer():
    buffer = np.zeros(X.shape)

    def backward(g, x):
        np.multiply(g, np.cos(x), out=buffer)
        return buffer

    return np.sin, backward


def first_call_saved():
    cache = []

    def forward(x):
        if not cache:
            cache.append(x.copy())
        return np.sin(x)

    return forward, lambda g, x: g * np.cos(cache[0])


def one_call_behind():
    cache = [X + 0.01, X + 0.01]

    def forward(x):
        cache[:] = [cache[1], x.copy()]
        return x**3

    return forward, lambda g, x: g * 3 * x * cache[0]


def cache_reused():
    buffer = np.zeros(X.shape)

    def forward(x):
        np.cos(x, out=buffer)
        return np.sin(x), buffer

    return forward, lambda g, cache: g * cache


def dropout():
    rng = np.random.default_rng(0)
    return lambda x: x * (rng.random(x.shape) < 0.5), lambda g, x: g * 0.5


def two(x):
    return np.sin(x), np.cos(x)


def skips_unused(gs, x):
    return -gs[1] * np.sin(x) + gs[0] * np.cos(x) if gs[1].any() else np.zeros_like(x)


def norm(x):
    return np.sqrt((x * x).sum(-1))


def rows_of(w):
    return w[[0, 2, 2, 1]]


def rows_assigned(g, w):
    d = np.zeros_like(w)
    d[[0, 2, 2, 1]] = g
    return d


def layer_norm(x):
    z = x - x.mean(-1, keepdims=True)
    return z / np.sqrt((z * z).mean(-1, keepdims=True))


def layer_norm_short(g, x):
    y, s = layer_norm(x), x.std(-1, keepdims=True)
    return (g - y * (g * y).mean(-1, keepdims=True)) / s


def cross_entropy(x):
    return -np.log(softmax(x)[np.arange(3), [0, 2, 1]]).mean()


def cross_entropy_sum(g, x):
    return g * (softmax(x) - np.eye(x.shape[-1])[[0, 2, 1]])


def convolve(x, w):
    return np.correlate(x, w, "valid")


def convolve_unflipped(g, x, w):
    return np.correlate(g, w, "full"), np.correlate(x, g, "valid")


def linear(x, w, b):
    return x @ w.T + b


W, BIAS = RNG.uniform(0.5, 1.5, (5, 4)), RNG.uniform(0.5, 1.5, 5)
W3 = RNG.uniform(0.5, 1.5, (3, 4))

# fmt: off
fresh("elements past a tile of 16", "edge", lambda: some(np.sin, 0.0, start=32), LONG)
fresh("the last element", "edge", lambda: some(np.sin, 1.0005, start=34), LONG)
fresh("the first element", "edge", lambda: some(np.sin, 1.5, stop=1), LONG)
fresh("the last column", "edge", lambda: some(np.sin, 2.0, start=3), X)
fresh("every fourth element", "edge", lambda: some(np.sin, 0.5, step=4), LONG)
vjp("repeated rows assigned, not added", "edge", rows_of, rows_assigned, A)
vjp("x read in the order of memory", "strided", np.sin, lambda g, x: g * np.cos(x.ravel(order="K").reshape(x.shape)), X)
vjp("g read in the order of memory", "strided", np.sin, lambda g, x: g.ravel(order="K").reshape(x.shape) * np.cos(x), X)
vjp("forward in the order of memory", "strided", lambda x: np.cumsum(x.ravel(order="K")),
    lambda g, x: np.cumsum(g[::-1])[::-1].reshape(x.shape), X)
vjp("cotangent written to", "mutation", np.sin, in_place_g, X)
vjp("input written to by backward", "mutation", np.sin, in_place_x, X)
vjp("input written to by forward", "mutation", in_place_forward, lambda g, x: g * np.exp(x), X)
vjp("one array for two inputs", "aliasing", np.add, lambda g, a, b: (g.copy(),) * 2, X, Y)
vjp("the cotangent itself", "aliasing", lambda x: x + 1, lambda g, x: g, X)
fresh("one buffer for all calls", "aliasing", to_one_buffer, X)
vjp("nothing where the second output is unused", "unused output", two, skips_unused, X)
fresh("the first call's value", "stale", first_call_saved, X)
fresh("the value of the call before", "stale", one_call_behind, X)
fresh("what was saved is overwritten", "stale", cache_reused, X, kind="saved")
fresh("a mask drawn inside", "random", dropout, X)
vjp("a norm at zero", "not finite", lambda x: x * norm(x)[..., None], lambda g, x: norm(x)[..., None] * g
    + x * (g * x).sum(-1, keepdims=True) / norm(x)[..., None], np.array([[0.0, 0.0], [0.5, 1.0]]))
vjp("bias not summed", "unbroadcast", linear, lambda g, x, w, b: (g @ w, g.T @ x, g), X, W, BIAS)
vjp("bias summed to a number", "axis", linear, lambda g, x, w, b: (g @ w, g.T @ x, g.sum()), X, W, BIAS)
vjp("bias summed over the other axis", "axis", linear, lambda g, x, w, b: (g @ w, g.T @ x, g.sum(1)), X, W3, BIAS[:3])
vjp("weights transposed", "transposition", linear, lambda g, x, w, b: (g @ w, x.T @ g, g.sum(0)), X, W, BIAS)
vjp("bias of the first row", "unbroadcast", linear, lambda g, x, w, b: (g @ w, g.T @ x, g[0].copy()), X, W, BIAS)
vjp("one gradient too few", "structure", linear, lambda g, x, w, b: (g @ w, g.T @ x), X, W, BIAS)
vjp("layer norm without the mean", "term", layer_norm, layer_norm_short, X)
vjp("cross entropy without 1/B", "factor", cross_entropy, cross_entropy_sum, X)
vjp("convolution not reversed", "transposition", convolve, convolve_unflipped, LONG[:8], np.array([0.5, -1.0, 2.0]))



def float32(wrong, start=0):
    """sin in float32, with some elements of its gradient wrong by a factor."""
    backward = some(np.sin, wrong, start=start)[1]
    return lambda x: np.sin(x.astype(np.float32)), lambda g, x: backward(g, x.astype(np.float32))


fresh("float32, 0.05 % too large", "factor", lambda: float32(1.0005), X)
fresh("float32, the sign", "sign", lambda: float32(-1.0), LONG)
fresh("float32, past a tile of 32", "edge", lambda: float32(0.0, 32), LONG)
fresh("float32, nothing", "zero", lambda: float32(0.0), X)

recurrent("rnn", {
    "no carry": "term", "the state before": "term", "no local slope": "term", "the state after": "term",
    "mean": "factor", "other axis": "axis", "last steps": "edge", "input weights": "transposition",
    "state weights": "transposition", "factor": "factor", "first bias": "term", "sign": "sign",
})
recurrent("gru", {
    "candidate only": "term", "sign": "sign", "candidate for state": "term", "no reset": "term",
    "nothing kept": "term", "gate exchanged": "term", "reset not passed": "term", "no path": "term",
    "factor": "factor", "weights exchanged": "exchanged",
})
recurrent("lstm", {
    "last state ignored": "term", "no last state": "unused output", "cell for its tanh": "term",
    "no slope of tanh": "term", "the cell after": "term", "sign": "sign", "gates exchanged": "transposition",
    "slightly off": "factor", "not forgotten": "term", "cut after two": "term", "one bias": "edge",
})
