"""The edges of the number line: accuracy, overflow, infinities, NaN, signed zeros, subnormals, ties and kinks."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops import REGISTRY


def isnan(x):
    return np.isnan(x.numpy())


BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])

# ------------------------------------------------------------------------------------------------ accuracy


def softplus(x):
    return np.logaddexp(np.zeros((), x.dtype), x)


EXACT = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sqrt": np.sqrt, "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "softplus": softplus, "sin": np.sin, "cos": np.cos,
}  # fmt: skip


def sample(name, dtype):
    """Points of every magnitude, and many where the function is neither 0 nor 1."""
    rng = np.random.default_rng(0)
    tiny, huge = np.log10(np.finfo(dtype).smallest_subnormal.astype(np.longdouble)), np.log10(np.finfo(dtype).max)
    wide = 10 ** rng.uniform(float(tiny) + 1, 4 if name in ("sin", "cos") else float(huge) - 1, 5000)
    near = rng.uniform(-1, 1, 5000) * rng.choice([0.01, 1, 10, 100, 1000], 5000)
    x = np.concatenate([wide, -wide, near, 1 + near / 1000]).astype(dtype)
    return x[x >= 0] if name in ("log", "sqrt") else x[x > -1] if name == "log1p" else x


@BOTH
@pytest.mark.parametrize("name", EXACT)
def test_transcendental_primitives_are_within_4_units_in_the_last_place(name, dtype):
    x = sample(name, dtype)
    got = np.asarray(getattr(mg, name)(mg.Tensor(x)))
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.longdouble))
        rounded = exact.astype(dtype)
        error = np.abs(got.astype(np.longdouble) - exact)
        finite = np.isfinite(rounded)
        limit = 4 * np.spacing(np.abs(rounded[finite])).astype(np.longdouble)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    if name == "sigmoid":  # e^-x overflows before 1/(1 + e^-x) leaves the subnormal numbers
        limit = np.maximum(limit, np.finfo(dtype).tiny)
    bad = error[finite] > limit
    assert not bad.any(), list(zip(x[finite][bad], got[finite][bad], rounded[finite][bad]))[:5]


# ------------------------------------------------------------------------------------------------ special points


def special_points(dtype):
    f = np.finfo(dtype)
    points = [0.0, 1.0, 1e4, np.inf, f.smallest_subnormal, f.tiny, f.max, f.eps, 88.5, 89.5, 104.5, 709.5, 746.5]
    return np.array([*points, *[-p for p in points], np.nan], dtype)


@BOTH
@pytest.mark.parametrize("name", [*EXACT, "relu", "abs", "sign", "neg", "square", "reciprocal", "erf", "step"])
def test_special_values_equal_numpy(name, dtype):
    x = special_points(dtype)
    oracle = EXACT.get(name, REGISTRY[name].oracle)
    with np.errstate(all="ignore"):
        expected = np.asarray(oracle(x.astype(np.longdouble if name in EXACT else np.float64))).astype(dtype)
    got = np.asarray(REGISTRY[name].function(mg.Tensor(x)))
    if name == "step":
        expected[np.isnan(x)] = 0  # a comparison with NaN is false
    np.testing.assert_allclose(got, expected, rtol=8 * np.finfo(dtype).eps, atol=2 * np.finfo(dtype).tiny)


@BOTH
@pytest.mark.parametrize("name", ["tanh", "sin", "sqrt", "neg"])
def test_the_sign_of_zero_is_kept_as_in_numpy(name, dtype):
    x = np.array([0.0, -0.0], dtype)
    y = REGISTRY[name].function(mg.Tensor(x))
    np.testing.assert_array_equal(np.signbit(y.numpy()), np.signbit(REGISTRY[name].oracle(x)))


@BOTH
@pytest.mark.parametrize("f", ["maximum", "minimum", "add", "mul", "sub", "div", "power"])
def test_pairs_of_special_values_equal_numpy(f, dtype):
    points = np.array([0.0, 1.0, 2.0, -1.5, np.inf, -np.inf, np.nan], dtype)
    a, b = np.repeat(points, points.size), np.tile(points, points.size)
    with np.errstate(all="ignore"):
        expected = REGISTRY[f].oracle(a, b)
    np.testing.assert_allclose(REGISTRY[f].function(mg.Tensor(a), mg.Tensor(b)), expected, rtol=1e-6)


# ------------------------------------------------------------------------------------------------ NaN


def with_nan(shape, at):
    x = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape) / 100
    x[at] = np.nan
    return mg.Tensor(x)


@pytest.mark.parametrize("f", [mg.sum, mg.mean, mg.max, mg.min, mg.prod, mg.var, mg.logsumexp])
@pytest.mark.parametrize("position", [0, 1, 19, 36])
def test_nan_wins_in_every_reduction(f, position):
    rows, columns = with_nan((37, 3), (position, 1)), with_nan((3, 37), (1, position))
    np.testing.assert_array_equal(isnan(f(rows, axis=0)), [False, True, False])
    np.testing.assert_array_equal(isnan(f(columns, axis=1)), [False, True, False])
    assert isnan(f(rows))


@pytest.mark.parametrize("f", [mg.softmax, mg.log_softmax])
def test_nan_spoils_its_row_of_a_softmax_and_no_other(f):
    for position in (0, 5, 36):
        bad = isnan(f(with_nan((3, 37), (1, position)), axis=1))
        np.testing.assert_array_equal(bad, np.repeat([[False], [True], [False]], 37, axis=1))


def test_nan_spoils_what_follows_it_in_a_running_sum():
    np.testing.assert_array_equal(isnan(mg.cumsum(with_nan((5,), 2))), [False, False, True, True, True])


def test_nan_spoils_its_row_of_a_matrix_product():
    y = with_nan((3, 40), (1, 7)) @ mg.Tensor(np.ones((40, 20), np.float32))
    np.testing.assert_array_equal(isnan(y), np.repeat([[False], [True], [False]], 20, axis=1))


def test_where_and_clip_treat_nan_as_numpy_does():
    x, mask = np.array([np.nan, 1.0, np.nan], np.float32), np.array([True, True, False])
    np.testing.assert_array_equal(mg.where(mask, mg.Tensor(x), 0.0), np.where(mask, x, 0))
    np.testing.assert_array_equal(mg.clip(mg.Tensor(x), 0.0, 0.5), np.clip(x, 0, 0.5))


def test_nan_that_where_did_not_choose_does_not_reach_the_gradient():
    x = mg.Tensor(np.array([np.nan, 2.0], np.float32), requires_grad=True)
    mg.where(np.array([False, True]), x * x, 0.0).sum().backward()
    np.testing.assert_array_equal(mg.where(np.array([False, True]), x.grad, 0.0), [0.0, 4.0])


# ------------------------------------------------------------------------------------------------ infinities, overflow


@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_and_logsumexp_do_not_overflow(axis):
    x = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]], np.float32)
    m = x.max(axis, keepdims=True)
    shifted = np.exp(x.astype(np.float64) - m)
    total = shifted.sum(axis, keepdims=True)
    np.testing.assert_allclose(mg.softmax(mg.Tensor(x), axis), shifted / total, rtol=1e-6)
    np.testing.assert_allclose(mg.logsumexp(mg.Tensor(x), axis, keepdims=True), np.log(total) + m, rtol=1e-6)


def test_logsumexp_of_infinities_equals_repeated_logaddexp():
    for row in ([-np.inf, -np.inf], [-np.inf, 1.0], [np.inf, 1.0], [np.inf, -np.inf], [np.inf, np.inf]):
        x = np.array(row, np.float32)
        np.testing.assert_array_equal(mg.logsumexp(mg.Tensor(x)), np.logaddexp.reduce(x))


def test_softmax_gives_weight_zero_to_minus_infinity():
    y = mg.softmax(mg.tensor(np.array([-np.inf, 0.0, 0.0], np.float32)))
    np.testing.assert_array_equal(y, [0, 0.5, 0.5])


@BOTH
@pytest.mark.parametrize("f", [
    mg.sigmoid, mg.tanh, mg.softplus, mg.softmax, mg.log_softmax, mg.logsumexp, mg.relu, mg.gelu, mg.erf,
    lambda x: mg.cross_entropy(x, np.array(1)), lambda x: mg.binary_cross_entropy(x, np.array([1.0, 0.0, 1.0])),
])  # fmt: skip
def test_arguments_of_plus_and_minus_1e4_give_finite_values_and_gradients(f, dtype):
    x = mg.Tensor(np.array([-1e4, 0.0, 1e4], dtype), requires_grad=True)
    y = f(x)
    y.backward(mg.Tensor(np.ones(y.shape, dtype)), create_graph=True)
    assert np.isfinite(y.numpy()).all() and np.isfinite(x.grad.numpy()).all()
    first, x.grad = x.grad, None
    if first.requires_grad:  # not constant, as that of relu is
        first.backward(mg.Tensor(np.ones(3, dtype)))
        assert np.isfinite(x.grad.numpy()).all()


# ------------------------------------------------------------------------------------------------ ties and kinks


def gradient_at(f, *xs):
    xs = [mg.tensor(x, requires_grad=True) for x in xs]
    f(*xs).sum().backward()
    return [x.grad.tolist() for x in xs]


def test_ties_in_max_and_min_share_the_gradient():
    assert gradient_at(mg.max, [1.0, 3.0, 3.0, 2.0, 3.0, 3.0]) == [[0, 0.25, 0.25, 0, 0.25, 0.25]]
    assert gradient_at(mg.min, [1.0, 1.0, 3.0]) == [[0.5, 0.5, 0]]
    assert gradient_at(lambda x: mg.max(x, axis=0), [[1.0, 2.0], [1.0, 0.0]]) == [[[0.5, 1], [0.5, 0]]]


def test_ties_in_maximum_and_minimum_share_the_gradient():
    assert gradient_at(mg.maximum, [1.0, 2.0, 4.0], [1.0, 3.0, 2.0]) == [[0.5, 0, 1], [0.5, 1, 0]]
    assert gradient_at(mg.minimum, [1.0, 2.0, 4.0], [1.0, 3.0, 2.0]) == [[0.5, 1, 0], [0.5, 0, 1]]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_the_slopes_of_relu_and_abs_at_zero_are_zero(zero):
    assert gradient_at(mg.relu, [zero, 1.0, -1.0]) == [[0, 1, 0]]
    assert gradient_at(mg.abs, [zero, 2.0, -2.0]) == [[0, 1, -1]]


def test_the_gradient_of_a_power_is_finite_at_zero():
    x = mg.tensor(np.array([0.0, 0.0, 0.0]), requires_grad=True)
    p = mg.tensor(np.array([0.0, 1.0, 2.0]), requires_grad=True)
    mg.power(x, p).sum().backward()
    assert x.grad.tolist() == [0, 1, 0] and p.grad.tolist() == [0, 0, 0]


def test_the_gradient_of_prod_is_right_where_elements_are_zero():
    assert gradient_at(mg.prod, [0.0, 2.0, 3.0]) == [[6, 0, 0]]
    assert gradient_at(mg.prod, [0.0, 0.0, 3.0]) == [[0, 0, 0]]
