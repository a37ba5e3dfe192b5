"""The tensor itself: what it copies, its dtype, its operators and methods, and how it looks."""

import numpy as np
import pytest

import minigrad as mg

X = np.array([[0.5, -1.5, 2.0], [3.0, -0.25, 1.0]])


# ------------------------------------------------------------------------------------------------ making one


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        ([1.5, 2.0], "float32"),
        ([[1, 2]], "int64"),
        (True, "bool"),
        ([], "float32"),
        (np.float64(1.5), "float64"),
        (np.zeros(2), "float64"),
        (np.zeros(2, np.float32), "float32"),
        (np.zeros(2, np.float16), "float32"),
        (np.zeros(2, np.int32), "int64"),
        (np.zeros(2, np.uint8), "int64"),
        (np.zeros(2, bool), "bool"),
        (mg.tensor(np.zeros(2)), "float64"),
        ([mg.tensor(np.zeros(2)), mg.tensor(np.ones(2))], "float64"),
        ([mg.tensor([1.0]), mg.tensor([2.0])], "float32"),
        ([np.zeros(2), np.ones(2)], "float64"),
    ],
)
def test_python_floats_become_float32_and_arrays_keep_their_dtype(data, dtype):
    assert mg.tensor(data).dtype == dtype
    assert mg.tensor(data, dtype="float64").dtype == np.float64


def test_a_tensor_is_a_copy_of_its_data():
    array = np.ones(3)
    x = mg.tensor(array)
    y = mg.tensor(x)
    array[0] = 7
    assert x.tolist() == [1, 1, 1] and not np.may_share_memory(x.data, y.data)


def test_the_numpy_view_cannot_be_written_to_and_its_copy_can():
    x = mg.tensor([1.0, 2.0])
    for view in (x.numpy(), np.asarray(x)):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 5.0
    for copy in (x.numpy().copy(), np.array(x), np.asarray(x, dtype=np.float64)):
        copy[0] = 5.0
    assert x.tolist() == [1, 2]


# ------------------------------------------------------------------------------------------------ operators

OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "**": lambda a, b: a**b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}
OTHERS = [2, 0.5, True, np.float64(0.5), np.float32(0.5), np.int64(2), np.abs(X), mg.tensor(np.abs(X))]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("other", OTHERS, ids=lambda o: type(o).__name__)
def test_operators_take_tensors_arrays_and_numbers_on_both_sides(name, other):
    f, x = OPERATORS[name], mg.tensor(np.abs(X))
    plain = other.numpy() if isinstance(other, mg.Tensor) else other
    for got, expected in ((f(x, other), f(np.abs(X), plain)), (f(other, x), f(plain, np.abs(X)))):
        assert isinstance(got, mg.Tensor) and got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-14)


@pytest.mark.parametrize("number", [2, 0.1, np.float64(0.1), np.float32(0.1), np.int32(3)])
def test_numbers_take_the_dtype_of_the_tensor_beside_them(number):
    for dtype in ("float32", "float64"):
        x = mg.tensor([1.0, 2.0], dtype=dtype)
        assert (x * number).dtype == (number - x).dtype == mg.maximum(x, number).dtype == dtype


@pytest.mark.parametrize("power", [0, 1, 2, 3, -1, -2, 0.5, 2.5])
def test_powers_and_their_gradients_equal_the_formula(power):
    x = np.abs(X)
    np.testing.assert_allclose(mg.tensor(x) ** power, x**power, rtol=1e-13)
    g = mg.grad(lambda x: (x**power).sum())(mg.tensor(x))
    np.testing.assert_allclose(g, power * x ** (power - 1.0), rtol=1e-13)


def test_products_of_matrices_take_arrays_on_both_sides():
    x = mg.tensor(X)
    np.testing.assert_allclose(x @ X.T, X @ X.T)
    np.testing.assert_allclose(X.T @ x, X.T @ X)


def test_unary_operators_and_turned_views():
    x = mg.tensor(X)
    np.testing.assert_array_equal(-x, -X)
    np.testing.assert_array_equal(abs(x), np.abs(X))
    np.testing.assert_array_equal(x.T, X.T)
    three = mg.tensor(np.ones((2, 3, 4)))
    assert three.T.shape == (4, 3, 2) and three.mT.shape == (2, 4, 3)
    assert three.transpose(1, 0, 2).shape == three.permute((1, 0, 2)).shape == (3, 2, 4)
    assert three.reshape(6, -1).shape == three.reshape((6, 4)).shape == (6, 4)


@pytest.mark.parametrize("index", [(0,), np.int64(1), -1])
def test_axes_may_be_tuples_and_integers_of_numpy(index):
    x = mg.tensor(X)
    np.testing.assert_array_equal(x.sum(index), X.sum(index))
    np.testing.assert_array_equal(mg.flip(x, index), np.flip(X, index))


def test_sizes_may_be_integers_of_numpy():
    x, two = mg.tensor(X), np.int64(2)
    assert x.reshape(two * 3).shape == (6,) and x.reshape(3, two).shape == (3, 2)
    assert len(mg.split(x, two)) == 2 and mg.tile(x, two).shape == (2, 6)


# ------------------------------------------------------------------------------------------------ as Python values


def test_a_tensor_of_one_element_is_a_number():
    x = mg.tensor([[2.5]])
    assert float(x) == x.item() == 2.5 and int(x) == 2 and bool(x) and f"{x:.2f}" == "2.50"
    assert not bool(mg.tensor(0.0))


def test_iteration_and_length_are_those_of_the_first_axis():
    x = mg.tensor(X)
    assert len(x) == 2 and [row.tolist() for row in x] == X.tolist()
    a, b = x
    assert a.shape == b.shape == (3,)


def test_tensors_are_keys_by_identity():
    x, y = mg.tensor([1.0]), mg.tensor([1.0])
    assert {x: 1, y: 2}[x] == 1 and len({x, y, x}) == 2


def test_the_text_names_values_dtype_and_what_made_it():
    x = mg.tensor([1.0, 2.5], requires_grad=True)
    assert repr(x) == "tensor([1. , 2.5], requires_grad=True)"
    assert repr(x * 2.0) == "tensor([2., 5.], by=mul)"
    assert repr(mg.tensor([1, 2])) == "tensor([1, 2], dtype=int64)"
    assert f"{x}" == repr(x)
    assert len(repr(mg.tensor(np.zeros((1000, 1000))))) < 1000


def test_argmax_is_that_of_numpy():
    assert mg.tensor(X).argmax().item() == 3 and mg.tensor(X).argmax(1).tolist() == [2, 0]
