"""Causes that reports once got wrong: each is named, and what the hint says is so."""

import numpy as np
import pytest

from minigrad.testing import CAUSES, GradientError, check_vjp

RNG = np.random.default_rng(5)
X, W, LONG, TAPS = (RNG.normal(size=s) for s in [(3, 4), (4, 2), 12, 3])
Q, K, V = (RNG.normal(size=(4, 3)) for _ in range(3))
GRU = [RNG.normal(size=s) for s in [(2, 4), (2, 5), (15, 4), (15, 5), (15,)]]


def report(forward, backward, *inputs):
    with pytest.raises(GradientError) as caught:
        check_vjp(forward, backward, *inputs)
    assert caught.value.cause in CAUSES
    return caught.value.cause, str(caught.value)


@pytest.mark.parametrize("n", [30, 120, 400])
@pytest.mark.parametrize("seed", range(4))
def test_one_wrong_entry_is_not_taken_for_a_value_of_another_call(n, seed):
    rng = np.random.default_rng(seed)
    x, i = rng.normal(size=n), rng.integers(n)
    backward = lambda g, x: g * (1 - np.tanh(x) ** 2) * np.where(np.arange(n) == i, -1.0, 1.0)
    cause, said = report(np.tanh, backward, x)
    assert cause == "edge" or "were looked at" in said


def test_wrong_only_at_these_inputs_is_no_old_value():
    backward = lambda g, x: g * np.cos(x) * np.where(np.isin(x, X[1]), 2.0, 1.0)
    assert report(np.sin, backward, X)[0] != "stale"


def test_a_ratio_at_one_entry_is_a_factor_only_if_it_stays():
    cause, said = report(np.tanh, lambda g, x: g * (1 - np.tanh(x)), 1.2)
    assert cause == "term" and "the ratio is 0.545359, but " in said
    assert report(np.tanh, lambda g, x: g * (1 - np.tanh(x) ** 2) * 2, 1.2)[0] == "factor"
    cause, said = report(lambda x: np.log(np.exp(x).sum()), lambda g, x: g * np.exp(x), X)
    assert "at other inputs: it depends on them" in said


def test_a_gradient_that_is_added_up_and_one_that_is_random():
    kept = np.zeros(W.shape)

    def backward(g, x, w):
        a = g * (1 - np.tanh(x @ w) ** 2)
        np.add(kept, x.T @ a, out=kept)
        return a @ w.T, kept.copy()

    cause, said = report(lambda x, w: np.tanh(x @ w), backward, X, W)
    assert cause == "stale" and "with every call" in said
    rng = np.random.default_rng(0)
    assert report(np.sin, lambda g, x: g * np.cos(x) * rng.uniform(0.9, 1.1), X)[0] == "random"


def gru(x, h, W, U, b, g=None):
    """One step of three stacked gates; with g, gradients whose reset gate has the wrong slope."""
    (z, r, n), (zu, ru, nu) = np.split(x @ W.T + b, 3, -1), np.split(h @ U.T, 3, -1)
    z, r = 1 / (1 + np.exp(-z - zu)), 1 / (1 + np.exp(-r - ru))
    n = np.tanh(n + r * nu)
    if g is None:
        return (1 - z) * n + z * h
    dn = g * (1 - z) * (1 - n * n)
    dz, dr = g * (h - n) * z * (1 - z), dn * nu * r
    a, u = np.concatenate([dz, dr, dn], -1), np.concatenate([dz, dr, dn * r], -1)
    return a @ W, u @ U + g * z, a.T @ x, u.T @ h, a.sum(0)


def test_a_block_of_stacked_weights_is_a_gate():
    said = report(gru, lambda g, *xs: gru(*xs, g), *GRU)[1]
    assert "wrong in block 2 of 3 (positions 5 to 9) of axis 0 only" in said and "one gate" in said


def convolution(g, x, w, add=True, taps=3):
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for i in range(len(g)):
        dx[i : i + 3] = w * g[i] + dx[i : i + 3] * add
    for j in range(taps):
        dw[j] = g @ x[j : j + len(g)]
    return dx, dw


def test_taps_and_sums_of_a_convolution():
    forward = lambda x, w: np.correlate(x, w, "valid")
    cause, said = report(forward, lambda *a: convolution(*a, taps=2), LONG, TAPS)
    assert cause == "edge" and "a loop that ends too early" in said and "tile" not in said
    cause, said = report(forward, lambda *a: convolution(*a, add=False), LONG, TAPS)
    assert cause == "term" and "right only at [0, 11]" in said and "= for +=" in said


def test_a_sum_that_is_not_begun_anew_in_each_row():
    backward = lambda g, x: np.cumsum(g[:, ::-1].ravel()).reshape(g.shape)[:, ::-1].copy()
    cause, said = report(lambda x: np.cumsum(x, 1), backward, X)
    assert cause == "term" and "right at position 0 of axis 0 and wrong after it" in said


def attention(q, k, v, g=None):
    """With g, gradients that take the square matrix p for its transpose."""
    e = np.exp(q @ k.T)
    p = e / e.sum(-1, keepdims=True)
    if g is None:
        return p @ v
    dp = g @ v.T
    ds = p * (dp - (dp * p).sum(-1, keepdims=True))
    return ds @ k, ds.T @ q, p @ g


def test_a_square_matrix_inside_that_is_not_transposed():
    cause, said = report(attention, lambda g, *xs: attention(*xs, g), Q, K, V)
    assert cause == "transposition" and "on the way to input 2" in said


def test_other_points_may_lie_where_f_is_not_defined():
    def forward(x):
        if (x < 0.48).any():
            raise ValueError("outside")
        return np.log(x)

    with pytest.raises(GradientError, match="factor"):
        check_vjp(forward, lambda g, x: 2 * g / x, np.array([0.5, 1.5]), scale=0.01)


def test_ratios_near_one_and_zero_are_told():
    said = report(np.tanh, lambda g, x: g * (1 - np.tanh(x) ** 2) * (1 + 3e-5), X)[1]
    assert "ratios from 1 + 3.0e-05 to 1 + 3.0e-05" in said
    said = report(np.sin, lambda g, x: g * np.cos(x) * np.where(x == X[0, 0], -0.0, 1.0), X)[1]
    assert "ratios from 0 to 0" in said
