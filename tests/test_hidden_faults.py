"""Faults that a single comparison over everything would hide, each with its right twin, and what cannot be judged."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.engine import Operation, apply
from minigrad.errors import DtypeError, GraphError, UserError
from minigrad.testing import GradientError, check_grad, check_jvp, check_vjp, from_autograd

RNG = np.random.default_rng(0)
X, B = RNG.uniform(0.5, 1.5, (3, 4)), np.array([1.0, 2.0, 3.0])
LONG = RNG.uniform(0.5, 1.5, 10_000)
LAYER = [RNG.normal(size=(64, 100)), RNG.normal(size=(50, 100)) / 10, RNG.normal(size=50)]
BIG = np.array([1e9, 1.0])


def single(x):
    return x.astype(np.float32)


def sin32(x):
    return np.sin(single(x))


def cos32(k, none=0):
    def backward(g, x):
        d = g * np.cos(single(x)) * np.float32(k)
        d.ravel()[d.size - none :] = 0
        return d

    return backward


def layer(x, w, b):
    return np.tanh(single(x) @ single(w).T + single(b))


def layer_backward(kx=1.0, kw=1.0, kb=1.0):
    def backward(g, x, w, b):
        d = g * (1 - layer(x, w, b) ** 2)
        return d @ single(w) * np.float32(kx), d.T @ single(x) * np.float32(kw), d.sum(0) * np.float32(kb)

    return backward


def logs(x):
    return np.array([math.log(a) for a in x])


def entropy(p):
    return -(p * np.log(p)).sum()


def inexact(x):
    return float((single(x) ** 2).sum())


def tanh_in(dtype, k=1.0):
    return lambda g, x: (k * g * (1 - np.tanh(x) ** 2)).astype(dtype)


P, PF = {"W": X, "b": X[0]}, lambda p: p["W"] * p["b"]

# fmt: off
# forward, inputs, the right backward, the wrong ones
TWINS = {
    "float32, a layer": (layer, LAYER, layer_backward(),
                         [layer_backward(kb=-1), layer_backward(kb=0), layer_backward(kb=1.2), layer_backward(kx=1.1)]),
    "float32, many elements": (sin32, [LONG], cos32(1), [cos32(1, 16), cos32(1, 1), cos32(1.0005)]),
    "float32, few elements": (sin32, [X], cos32(1), [cos32(1.0005), cos32(1.001), cos32(1.002)]),
    "float32 inside, float64 outside": (inexact, [X], lambda g, x: 2 * g * x, [lambda g, x: 2.01 * g * x]),
    "gradients in float32": (np.tanh, [X - 1], tanh_in("float32"), [tanh_in("float32", 1.001)]),
    "a small factor": (np.tanh, [X], tanh_in("float64"), [tanh_in("float64", 1 + 5e-8)]),
    "a constant": (lambda x: 0 * x, [X], lambda g, x: 1e-18 * g, [lambda g, x: 1e-9 * g]),
    "a large constant": (lambda x: x + 1e12, [X], lambda g, x: g * 1, [lambda g, x: g * 2]),
    "complex numbers see it": (lambda x: x + 1e10, [X], lambda g, x: g * 1, [lambda g, x: g * 1.001]),
    "large inputs": (lambda x: 3 * x, [1e14 * X], lambda g, x: 3 * g, [lambda g, x: 2 * g]),
    "large inputs, curved": (np.square, [np.array([1.7e18, 1.7e18 + 1e9])], lambda g, x: 2 * g * x,
                             [lambda g, x: 3 * g * x]),
    "tiny results": (lambda x: 1e-13 * np.sin(x), [X], lambda g, x: 1e-13 * g * np.cos(x),
                     [lambda g, x: -1e-13 * g * np.cos(x)]),
    "one input beside a large one": (
        lambda x, b: 1e8 * (x**2).sum() + np.sin(b).sum(), [X, B],
        lambda g, x, b: (2e8 * g * x, g * np.cos(b)), [lambda g, x, b: (2e8 * g * x, -g * np.cos(b))]),
    "one entry beside a large one": (lambda x: (x * x * BIG).sum(), [B[:2]], lambda g, x: 2 * g * x * BIG,
                                     [lambda g, x: 2 * g * x * BIG * [1, -1]]),
    "one result beside a large one": (lambda x: np.sin(x) * BIG, [B[:2]], lambda g, x: g * np.cos(x) * BIG,
                                      [lambda g, x: g * np.cos(x) * BIG * [1, -1]]),
    "one output beside a large one": (lambda x: (1e9 * x, np.sin(x)), [X],
                                      lambda g, x: 1e9 * g[0] + g[1] * np.cos(x),
                                      [lambda g, x: 1e9 * g[0] - g[1] * np.cos(x)]),
    "not linear in g": (lambda x: (x * x).sum(), [B], lambda g, x: g * 2 * x, [lambda g, x: abs(g) * 2 * x]),
    "infinite": (np.sin, [X], lambda g, x: g * np.cos(x), [lambda g, x: np.full(x.shape, np.inf)]),
    "fails beyond 0": (logs, [np.array([0.01, 0.02])], lambda g, x: g / x, [lambda g, x: g / x / x]),
    "at an edge": (lambda x: x**1.5, [np.array([0.0, 1.0])], lambda g, x: 1.5 * g * x**0.5, [lambda g, x: g * x**0.5]),
    "near an edge": (np.log, [np.array([1e-5, 1.0])], lambda g, x: g / x, [lambda g, x: g / x * [2, 1]]),
    "entropy": (entropy, [np.array([1e-9, 0.5])], lambda g, p: -g * (np.log(p) + 1), [lambda g, p: -g * np.log(p)]),
    "None in a dictionary": (lambda p: p["W"] * 2, [P], lambda g, p: {"W": 2 * g, "b": None},
                             [lambda g, p: {"W": None, "b": None}, lambda g, p: {"W": 2 * g}]),
}
# fmt: on


@pytest.mark.parametrize("name", TWINS)
def test_what_hides_is_found_and_its_twin_is_right(name):
    forward, inputs, right, wrong = TWINS[name]
    for seed in range(3):
        check_vjp(forward, right, *inputs, seed=seed)
    for backward in wrong:
        with pytest.raises(GradientError) as caught:
            check_vjp(forward, backward, *inputs)
        assert caught.value.cause not in ("random", "kink", "unused output", "cannot be judged")


def planted(forward, *rules):
    op = Operation("planted", lambda k, *xs: np.asarray(forward(*xs)), rules)
    return lambda *xs: apply(op, xs)


def noisy(x):
    return x * mg.tensor(RNG.random(x.shape))


# fmt: off
RULES = {
    "the shape": (planted(np.sin, lambda g, y, x: mg.concat([g, g])), [X], "unbroadcast", "rule of 'planted' of .* at"),
    "one rule too few": (planted(np.multiply, lambda g, y, a, b: g * b), [X, X], "structure", "rule of 'planted'"),
    "no tensor": (planted(np.sin, lambda g, y, x: np.cos(x.data)), [X], "structure", "rule of 'planted'"),
    "no rule": (lambda x: apply(Operation("bare", lambda k, x: np.sin(x)), (x,)), [X], "tape",
                "'bare' of .* at .*test_hidden_faults.py:.* has no gradient rule"),
    "scaled": (planted(lambda x: 1e-30 * np.sin(x), lambda g, y, x: g * 2e-30 * mg.cos(x)), [X], "factor", "ratio 2"),
    "float32": (lambda x: planted(np.tanh, lambda g, y, x: g * (1 - y * y) * 1.01)(x.astype("float32")), [X],
                "factor", "in float32|ratio 1.01"),
    "random": (noisy, [X], "random", "differ"),
    "mask": (lambda x: x * mg.tensor((RNG.random(x.shape) < 0.5) * 2.0), [X], "random", "differ"),
    "absolute": (planted(lambda x: (x * x).sum(), lambda g, y, x: mg.abs(g) * 2.0 * x), [B], "cotangent", "-2 times"),
    "an input": (lambda x, b: 1e8 * (x * x).sum() + planted(np.sin, lambda g, y, x: -g * mg.cos(x))(b).sum(), [X, B],
                 None, "first wrong one"),
}
# fmt: on


@pytest.mark.parametrize("name", RULES)
def test_what_hides_in_an_operation_is_found(name):
    f, inputs, cause, said = RULES[name]
    with pytest.raises(GradientError, match=f"(?s){said}") as caught:
        check_grad(f, *inputs, order=1)
    assert cause is None or caught.value.cause == cause


@pytest.mark.parametrize(("f", "x"), [
    (lambda x: mg.tanh(x.astype("float32")), X), (mg.log, np.array([1e-6, 1.0])), (mg.sigmoid, np.array([32.0])),
    (lambda x: 1.0 - mg.sigmoid(x), np.array([36.0])), (mg.tanh, np.array([15.0, 1.0])),
    (lambda x: mg.softmax(x).sum() - 1.0, X), (mg.nn.Linear(4, 2), X), (mg.nn.LayerNorm(4), X),
    (mg.nn.LSTM(4, 3), X[:, None]),
])  # fmt: skip
def test_what_is_right_and_difficult_passes(f, x):
    check_grad(f, x)


def test_a_module_has_its_parameters_back_and_no_grad_does_not_matter():
    linear = mg.nn.Linear(4, 2)
    before = [p.data for p in linear.parameters()]
    with mg.no_grad():
        check_grad(linear, X)
    assert all(p.data is b for p, b in zip(linear.parameters(), before))


TANGENTS = [lambda v, x: v * v * np.cos(x), lambda v, x: abs(v) * np.cos(x), lambda v, x: (v != 0) * np.cos(x)]


def test_a_tangent_is_asked_for_any_direction_in_any_memory():
    check_jvp(np.sin, lambda v, x: v * np.cos(x), X)
    for tangent in TANGENTS:
        with pytest.raises(GradientError, match="linear in v"):
            check_jvp(np.sin, tangent, X)
    with pytest.raises(GradientError) as caught:
        check_jvp(np.sin, lambda v, x: v.ravel(order="K").reshape(v.shape) * np.cos(x), X)
    assert caught.value.cause == "strided"
    with pytest.raises(GradientError, match="tangent returned shapes None"):
        check_jvp(np.sin, lambda v, x: None, X)


@pytest.mark.parametrize("shape", [(30,), (100,), (1200,), (10, 12), (100, 100)])
def test_a_single_wrong_entry_is_located(shape):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, i = rng.normal(size=shape), tuple(int(rng.integers(1, n - 1)) for n in shape)

        def backward(g, x, i=i):
            d = g * (1 - np.tanh(x) ** 2)
            d[i] *= -1
            return d

        with pytest.raises(GradientError) as caught:
            check_vjp(np.tanh, backward, x)
        text = str(caught.value)
        assert caught.value.cause == "edge" and f"largest error: input 0 {list(i)}" in text and f"1 of {x.size}" in text


def test_what_values_do_not_show_cannot_be_judged():
    with pytest.raises(GradientError) as caught:
        check_vjp(lambda x: x + 1e15, lambda g, x: 2 * g, X)
    assert caught.value.cause == "cannot be judged"
    with pytest.raises(GradientError, match="is not finite a step of .* away; .*lower scale"):
        check_vjp(lambda x: x**1.5, lambda g, x: 1.5 * g * x**0.5, np.zeros(1))


def test_calls_that_differ_are_told_apart():
    total = np.zeros(X.shape)

    def grows(g, x):
        total[...] += g * np.cos(x)
        return total.copy()

    for backward, cause in ((lambda g, x: g * np.cos(x) * RNG.random(x.shape), "random"), (grows, "stale")):
        with pytest.raises(GradientError) as caught:
            check_vjp(np.sin, backward, X)
        assert caught.value.cause == cause


class Layer:
    mean = np.zeros(4)

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return np.sin(x)


def test_no_complex_number_stays_in_a_layer():
    layer = Layer()
    for forward in (layer.forward, lambda x: layer.forward(x)):
        check_vjp(forward, lambda g, x: g * np.cos(x), X)
        assert layer.mean.dtype == np.float64


@pytest.mark.parametrize(("call", "error", "said"), [
    *[(lambda o=o: check_grad(mg.sin, X, order=o), UserError, "an integer from 1") for o in (0, -1, 1.5)],
    *[(lambda s=s: check_vjp(np.sin, np.cos, X, scale=s), UserError, "a positive number") for s in (0, -1, np.nan)],
    (lambda: check_vjp(lambda: np.array(1.0), lambda g: ()), UserError, "no inputs"),
    (lambda: check_vjp(np.fft.fft, lambda g, x: g, X), GraphError, "complex128.*real and imaginary"),
    (lambda: check_vjp(np.sin, np.cos, [[1.0, 2.0], [3.0]]), DtypeError, "ragged"),
    (lambda: check_grad(mg.sin, [[1.0, 2.0], [3.0]]), DtypeError, "ragged"),
    (lambda: check_vjp(np.sin, np.cos, Layer()), DtypeError, "a Layer as input 0, expected an array"),
    (lambda: check_vjp(PF, lambda g, p: {"W": g * p["b"]}, P), GradientError, "lacks 'b'"),
])  # fmt: skip
def test_misuse_is_told(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_a_forgotten_saved_is_hinted_at():
    with pytest.raises(TypeError) as caught:
        check_vjp(lambda x: (np.sin(x), x), lambda g, x: -g, X)
    assert "pass saved=True" in caught.value.__notes__[0]


def test_containers_of_autograd():
    m = pytest.importorskip("autograd.numpy")
    check_vjp(*from_autograd(lambda p: m.tanh(p["a"]) * p["b"]), {"a": X, "b": X + 1})
    check_vjp(*from_autograd(lambda x: (m.tanh(x), m.sin(x))), X)
