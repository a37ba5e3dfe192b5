"""Gradients of foreign code: what is right passes, misuse is told, reports name things, nothing else is imported."""

import subprocess
import sys

import hand_written as by_hand
import numpy as np
import pytest
from hypothesis import given
from numba import njit

from minigrad.errors import DtypeError, GraphError
from minigrad.testing import GradientError, check_jvp, check_vjp, from_autograd, from_jax, from_torch
from minigrad.testing.strategies import SEEDS

RNG = np.random.default_rng(0)
X, Y = RNG.uniform(0.5, 1.5, (3, 4)), RNG.uniform(0.5, 1.5, (3, 4))


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@given(seed=SEEDS)
def test_the_recurrent_layers_by_hand_are_right(cell, seed):
    inputs = by_hand.sizes([x.shape for x in getattr(by_hand, cell.upper())], seed)
    check_vjp(getattr(by_hand, cell), getattr(by_hand, f"{cell}_backward"), *inputs, saved=True, seed=seed)


def softmax_backward(g, x):
    y = softmax(x)
    return y * (g - (g * y).sum(-1, keepdims=True))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@njit
def scaled(x):
    y = np.empty_like(x)
    for i in range(x.size):
        y.flat[i] = 3.0 * x.flat[i] ** 2
    return y


RIGHT = {
    "one array": (np.sin, lambda g, x: g * np.cos(x), [X]),
    "two arrays": (np.multiply, lambda g, a, b: (g * b, g * a), [X, Y]),
    "broadcasting": (np.add, lambda g, a, b: (g.copy(), g.sum(0)), [X, Y[0]]),
    "a number": (np.sin, lambda g, x: g * np.cos(x), [np.array(0.3)]),
    "nothing": (np.sin, lambda g, x: g * np.cos(x), [np.zeros((0, 3))]),
    "several results": (lambda x: (np.sin(x), np.cos(x)), lambda g, x: g[0] * np.cos(x) - g[1] * np.sin(x), [X]),
    "a dictionary": (lambda x, p: x @ p["W"].T + p["b"],
                     lambda g, x, p: (g @ p["W"], {"W": g.T @ x, "b": g.sum(0)}), [X, {"W": Y[:2], "b": Y[0, :2]}]),
    "no gradient": (lambda a, b: a + np.sign(b), lambda g, a, b: (g.copy(), None), [X, Y]),
    "ties shared": (lambda x: x.max(-1), lambda g, x: (x == x.max(-1, keepdims=True)) / 2 * g[:, None],
                    [np.ones((3, 2))]),
    "the first of ties": (lambda x: x.max(-1), lambda g, x: np.eye(2)[x.argmax(-1)] * g[:, None], [np.ones((3, 2))]),
    "a kink": (lambda x: np.maximum(x, 0), lambda g, x: g * (x > 0), [np.array([0.0, 0.001, 0.5])]),
    "a maximum taken off": (softmax, softmax_backward, [X]),
    "a kernel of Numba": (scaled, lambda g, x: 6 * g * x, [X]),
    "a kernel in float32": (lambda x: np.tanh(x.astype(np.float32)),
                            lambda g, x: g * (1 - np.tanh(x.astype(np.float32)) ** 2), [X]),
    "a list of numbers": (np.sin, lambda g, x: g * np.cos(x), [[0.3, 1.0]]),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
@given(seed=SEEDS)
def test_what_is_right_passes_with_every_seed(name, seed):
    forward, backward, inputs = RIGHT[name]
    check_vjp(forward, backward, *inputs, seed=seed)


def test_a_layer_that_remembers_its_input():
    class Tanh:
        def forward(self, x):
            self.y = np.tanh(x)
            return self.y

        def backward(self, g):
            return g * (1 - self.y**2)

    layer = Tanh()
    check_vjp(layer.forward, lambda g, x: layer.backward(g), X)


def test_aliases_are_accepted_when_asked():
    check_vjp(np.add, lambda g, a, b: (g, g), X, Y, alias=True)


def test_complex_arrays_make_the_check_sharper():
    assert check_vjp(np.sin, lambda g, x: g * np.cos(x), X).resolution < 2e-9
    assert (
        check_vjp(np.arctan2, lambda g, a, b: (g * b / (a * a + b * b), -g * a / (a * a + b * b)), X, Y).resolution
        > 5e-9
    )


def test_forward_mode():
    check_jvp(np.multiply, lambda v, a, b: v[0] * b + a * v[1], X, Y)
    with pytest.raises(GradientError) as caught:
        check_jvp(np.square, lambda v, x: x * v, X)
    assert caught.value.cause == "factor" and "0.5" in str(caught.value)
    with pytest.raises(GradientError, match="tangent returned shapes"):
        check_jvp(np.square, lambda v, x: (x * v).sum(), X)


MISUSE = {
    "integers": (np.sin, lambda g, x: g, [np.arange(3)], DtypeError, "input 0 of dtype int64.*keep it out"),
    "complex": (np.sin, lambda g, x: g, [np.ones(3) * 1j], DtypeError, "complex128, expected float32 or float64"),
    "NaN": (np.sin, lambda g, x: g, [np.array([np.nan])], DtypeError, "NaN or Inf in input 0"),
    "a pair not said": (lambda x: (np.sin(x), x > 0), lambda g, x: g, [X], GraphError, "output 1.*bool.*saved=True"),
    "no result": (lambda x: None, lambda g, x: g, [X], GraphError, "forward that returns nothing"),
    "too many": (np.sin, lambda g, x: (g, g), [X], GradientError, "2 gradients for 1 inputs.*structure"),
    "no dictionary": (lambda p: p["W"] * 2, lambda g, p: 2 * g, [{"W": X}], GradientError,
                      "is ndarray, the argument is dict"),
    "shape": (np.add, lambda g, a, b: (g.copy(), g.copy()), [X, Y[0]], GradientError,
              r"\(3, 4\), the input \(4,\)\n.*unbroadcast.*sum the gradient over axes \(0,\)"),
    "forward NaN": (lambda x: np.log(x - 9), lambda g, x: g / x, [X], GradientError, "output 0 .* is nan at"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_told(name):
    forward, backward, inputs, error, text = MISUSE[name]
    with pytest.raises(error, match=f"(?s){text}"):
        check_vjp(forward, backward, *inputs)


def test_saved_wants_a_pair():
    with pytest.raises(GraphError, match="a pair \\(y, cache\\)"):
        check_vjp(np.sin, lambda g, cache: g, X, saved=True)


def test_the_report_says_where_how_much_and_why():
    with pytest.raises(GradientError) as caught:
        check_vjp(np.multiply, lambda g, a, b: (g * b, g * a * 2), X, Y)
    text = str(caught.value)
    assert "likely cause: factor: a constant factor; the ratio is 2 in every entry of input 1" in text
    assert "largest error: input 1 [" in text and "ratio 2" in text and "right: input 0" in text and "+-" in text


ALONE = """
import numpy as np
from minigrad.testing import check_vjp
import sys
check_vjp(np.sin, lambda g, x: g * np.cos(x), np.ones(3))
assert not {"torch", "jax", "autograd", "hypothesis", "scipy.optimize"} & set(sys.modules), "too much is imported"
"""


def test_it_works_where_nothing_else_is_imported(tmp_path):
    (tmp_path / "alone.py").write_text(ALONE)
    subprocess.run([sys.executable, "alone.py"], cwd=tmp_path, check=True)


@pytest.mark.parametrize("name", ["torch", "jax", "autograd"])
def test_functions_of_other_frameworks(name):
    pytest.importorskip(name)
    if name == "torch":
        import torch as m

        pair = from_torch(lambda a, b: m.tanh(a) * b)
    elif name == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        pair = from_jax(lambda a, b: jax.numpy.tanh(a) * b)
    else:
        import autograd.numpy as m

        pair = from_autograd(lambda a, b: m.tanh(a) * b)
    check_vjp(*pair, X, Y)
    with pytest.raises(GradientError):
        check_vjp(pair[0], lambda g, a, b: pair[1](1.0005 * g, a, b), X, Y)


@pytest.mark.parametrize("check", [check_vjp, check_jvp])
def test_a_ragged_list_is_refused_by_the_one_that_was_asked(check):
    with pytest.raises(DtypeError, match=rf"\[{check.__name__}\] got a ragged list"):
        check(np.sin, lambda *arrays: arrays[0], [[0.3, 1.0], [2.0]])
