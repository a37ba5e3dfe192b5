"""Errors: the right class, a message of where, got, expected, and do; raised before anything is computed."""

import re
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.engine import observe
from minigrad.errors import AnomalyError, DeviceError, DtypeError, GraphError, IndexingError, MinigradError, ShapeError
from minigrad.ops import REGISTRY
from minigrad.testing.calls import is_elementwise

F32 = mg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])  # (2, 3)
F64 = mg.tensor(np.ones((2, 3)))
INTS = mg.tensor([[1, 2, 3], [4, 5, 6]])
X = mg.tensor([[[1.0, 2.0, 3.0]] * 2] * 4)  # (T, B, I) = (4, 2, 3)
LSTM, GRU = mg.nn.LSTM(3, 5, generator=0), mg.nn.GRU(3, 5, generator=0)
X64 = mg.Tensor(np.ones((4, 2, 3)))
MASK = mg.Tensor(np.ones((2, 3), bool))
RECORDED = mg.tensor(np.ones((2, 3)), requires_grad=True) * 2.0
H = mg.Tensor(np.zeros((2, 5), np.float32))


def cell(p, x, h):
    return h, h


CASES = {
    # dtypes
    "sum of float32 and float64": (lambda: F32 + F64, DtypeError, "add", "float32 and float64"),
    "product of float32 and integers": (lambda: F32 * INTS, DtypeError, "mul", "float32 and int64"),
    "matmul of float32 and float64": (lambda: F32 @ F64.T, DtypeError, "matmul", "float32 and float64"),
    "matmul of integers": (lambda: INTS @ INTS.T, DtypeError, "matmul", "int64 and int64"),
    "where of float32 and float64": (lambda: mg.where(MASK, F32, F64), DtypeError, "where", "float32 and float64"),
    "where with numbers for a condition": (lambda: mg.where(F32, F32, F32), DtypeError, "where", "float32"),
    "concat of two dtypes": (lambda: mg.concat([F32, F64]), DtypeError, "concat", "float32 and float64"),
    "stack of two dtypes": (lambda: mg.stack([F32, F64]), DtypeError, "stack", "float32 and float64"),
    "division of integers": (lambda: INTS / INTS, DtypeError, "div", "int64"),
    "integers and a float": (lambda: INTS * 0.5, DtypeError, "mul", "int64 and the float 0.5"),
    "sum of integers": (lambda: INTS.sum(), DtypeError, "sum", "int64"),
    "softmax of integers": (lambda: mg.softmax(INTS), DtypeError, "softmax", "int64"),
    "gradients of integers": (lambda: mg.tensor([1], requires_grad=True), DtypeError, "tensor", "int64"),
    "complex numbers": (lambda: mg.tensor(np.array([1j])), DtypeError, "tensor", "complex128"),
    "text": (lambda: mg.tensor("abc"), DtypeError, "tensor", "<U3"),
    "something that is no number": (lambda: F32 + None, DtypeError, "add", "NoneType"),
    "astype to complex": (lambda: F32.astype("complex64"), DtypeError, "astype", "complex64"),
    # shapes
    "sum of shapes that do not broadcast": (lambda: F32 + F32.T, ShapeError, "add", "(2, 3) and (3, 2)"),
    "where of shapes that do not broadcast": (
        lambda: mg.where(MASK, F32, F32.T),
        ShapeError,
        "where",
        "(2, 3) and (2, 3) and (3, 2)",
    ),
    "matmul of inner sizes that differ": (lambda: F32 @ F32, ShapeError, "matmul", "(2, 3) @ (2, 3)"),
    "matmul with a number": (lambda: F32 @ mg.tensor(1.0), ShapeError, "matmul", "(2, 3) @ ()"),
    "matmul of batches that differ": (
        lambda: X @ mg.Tensor(np.zeros((3, 3, 2), np.float32)),
        ShapeError,
        "matmul",
        "(4, 2, 3) @ (3, 3, 2)",
    ),
    "ragged lists": (lambda: mg.tensor([[1.0], [2.0, 3.0]]), ShapeError, "tensor", "list"),
    "concat of nothing": (lambda: mg.concat([]), ShapeError, "concat", "no tensor"),
    "concat of other sizes": (lambda: mg.concat([F32, F32[:, :2]]), ShapeError, "concat", "(2, 3) and (2, 2)"),
    "stack of nothing": (lambda: mg.stack([]), ShapeError, "stack", "no tensor"),
    "stack of other shapes": (lambda: mg.stack([F32, F32.T]), ShapeError, "stack", "(2, 3) and (3, 2)"),
    "reshape to another size": (lambda: F32.reshape(4, 2), ShapeError, "reshape", "(2, 3) to (4, 2)"),
    "reshape with two unknowns": (lambda: F32.reshape(-1, -1), ShapeError, "reshape", "(2, 3) to (-1, -1)"),
    "reshape that does not divide": (lambda: F32.reshape(4, -1), ShapeError, "reshape", "(2, 3) to (4, -1)"),
    "broadcast to a smaller shape": (lambda: mg.broadcast_to(F32, (3,)), ShapeError, "broadcast_to", "(2, 3) to (3,)"),
    "squeeze of an axis of three": (lambda: mg.squeeze(F32, 1), ShapeError, "squeeze", "axis 1 of shape (2, 3)"),
    "split into unequal parts": (lambda: mg.split(F32, 2, axis=1), ShapeError, "split", "3 elements into 2"),
    "split behind the end": (lambda: mg.split(F32, [2, 9], axis=1), ShapeError, "split", "(2, 9) of 3"),
    "pad with too few widths": (lambda: mg.pad(F32, [(1, 1)]), ShapeError, "pad", "shape (2, 3)"),
    "pad with a negative width": (lambda: mg.pad(F32, [(1, 1), (-1, 0)]), ShapeError, "pad", "(-1, 0)"),
    "transpose of an axis twice": (lambda: mg.transpose(F32, (0, 0)), ShapeError, "transpose", "(0, 0)"),
    "matrix_transpose of a vector": (lambda: F32[0].mT, ShapeError, "matrix_transpose", "(3,)"),
    "item of six": (lambda: F32.item(), ShapeError, "item", "(2, 3)"),
    "truth of six": (lambda: bool(F32), ShapeError, "item", "(2, 3)"),
    "length of a number": (lambda: len(mg.tensor(1.0)), ShapeError, "len", "without axes"),
    "iteration over a number": (lambda: iter(mg.tensor(1.0)), ShapeError, "len", "without axes"),
    "the largest of nothing": (lambda: mg.max(F32[:0]), ShapeError, "max", "(0, 3)"),
    "the smallest of nothing": (lambda: mg.min(F32[:0]), ShapeError, "min", "(0, 3)"),
    "the mean of nothing": (lambda: mg.mean(F32[:0], 0), ShapeError, "mean", "(0, 3)"),
    "softmax of nothing": (lambda: mg.softmax(F32[:, :0]), ShapeError, "softmax", "(2, 0)"),
    "logsumexp of nothing": (lambda: mg.logsumexp(F32[:, :0], 1), ShapeError, "logsumexp", "(2, 0)"),
    "variance of one with ddof": (
        lambda: mg.var(mg.tensor([1.0]), ddof=1),
        ShapeError,
        "var",
        "1 elements with ddof=1",
    ),
    "einsum of letters that do not fit": (
        lambda: mg.einsum("ij,jk->ik", F32, F32),
        ShapeError,
        "einsum",
        "(2, 3), (2, 3)",
    ),
    "einsum of a letter too many": (lambda: mg.einsum("ij->ik", F32), ShapeError, "einsum", "'ij->ik'"),
    "einsum of a diagonal": (lambda: mg.einsum("ii->i", F32[:, :2]), ShapeError, "einsum", "'ii->i'"),
    # axes
    "sum over an axis that is not there": (lambda: F32.sum(2), ShapeError, "sum", "axis 2 of a tensor with 2 axes"),
    "sum over an axis twice": (lambda: F32.sum((0, -2)), ShapeError, "sum", "(0, -2)"),
    "flip of an axis that is not there": (lambda: mg.flip(F32, -3), ShapeError, "flip", "axis -3"),
    "unstack along an axis that is not there": (lambda: mg.unstack(F32, 5), ShapeError, "unstack", "axis 5"),
    "softmax of a number": (lambda: mg.softmax(mg.tensor(1.0)), ShapeError, "softmax", "without axes"),
    "cumsum along an axis that is not there": (lambda: mg.cumsum(F32, 2), ShapeError, "cumsum", "axis 2"),
    # positions
    "a row that is not there": (lambda: F32[2], IndexingError, "getitem", "(2, 3)"),
    "too many positions": (lambda: F32[0, 0, 0], IndexingError, "getitem", "(2, 3)"),
    "a mask of another shape": (lambda: F32[np.ones((3, 2), bool)], IndexingError, "getitem", "(2, 3)"),
    "a float for a position": (lambda: F32[1.0], IndexingError, "getitem", "(2, 3)"),
    "writing": (lambda: F32.__setitem__(0, 1.0), MinigradError, "tensor", "x[i] = v"),
    "an embedding that is not there": (lambda: mg.embedding(F32, [0, 2]), IndexingError, "embedding", "from 0 to 2"),
    "a negative embedding": (lambda: mg.embedding(F32, [-1, 1]), IndexingError, "embedding", "from -1 to 1"),
    "floats for embeddings": (lambda: mg.embedding(F32, [0.0]), DtypeError, "embedding", "float"),
    "an embedding in a number": (lambda: mg.embedding(mg.tensor(1.0), [0]), ShapeError, "embedding", "without axes"),
    "scatter_add of another shape": (lambda: mg.scatter_add(F32, [0], F32), ShapeError, "scatter_add", "(2, 3)"),
    "scatter_add behind the end": (
        lambda: mg.scatter_add(F32, [0, 7], F32),
        IndexingError,
        "scatter_add",
        "from 0 to 7",
    ),
    "scatter_add to a number": (
        lambda: mg.scatter_add(mg.tensor(1.0), [0], F32),
        ShapeError,
        "scatter_add",
        "without axes",
    ),
    "pick with too few rows": (lambda: mg.pick(F32, [0]), ShapeError, "pick", "(2, 3)"),
    # losses
    "targets that are no class": (lambda: mg.cross_entropy(F32, [0, 3]), IndexingError, "cross_entropy", "from 0 to 3"),
    "targets of another shape": (
        lambda: mg.cross_entropy(F32, [0]),
        ShapeError,
        "cross_entropy",
        "(2, 3), targets (1,)",
    ),
    "targets that are floats": (lambda: mg.cross_entropy(F32, [0.0, 1.0]), DtypeError, "cross_entropy", "float64"),
    "an unknown reduction": (
        lambda: mg.cross_entropy(F32, [0, 1], reduction="max"),
        ValueError,
        "cross_entropy",
        "'max'",
    ),
    "bce of other shapes": (lambda: mg.binary_cross_entropy(F32, F32[0]), ShapeError, "binary_cross_entropy", "(3,)"),
    "mse of other shapes": (lambda: mg.mse(F32, F32[0]), ShapeError, "mse", "(2, 3) and (3,)"),
    "dropout of everything": (lambda: mg.dropout(F32, F32, 1.0), ValueError, "dropout", "p=1.0"),
    # recurrence
    "lengths of another batch": (lambda: LSTM(X, lengths=[1, 2, 3]), ShapeError, "LSTM", "lengths (3,)"),
    "lengths beyond T": (lambda: LSTM(X, lengths=[1, 5]), ShapeError, "LSTM", "from 1 to 5"),
    "negative lengths": (lambda: GRU(X, lengths=[-1, 4]), ShapeError, "GRU", "from -1 to 4"),
    "lengths that are floats": (lambda: GRU(X, lengths=[1.0, 2.0]), DtypeError, "GRU", "float64"),
    "features of another size": (lambda: LSTM(X[:, :, :2]), ShapeError, "LSTM", "(4, 2, 2)"),
    "a sequence without a batch": (lambda: LSTM(X[0]), ShapeError, "LSTM", "(2, 3)"),
    "a state of another shape": (lambda: GRU(X, H), ShapeError, "GRU", "(2, 5)"),
    "one state for two": (lambda: LSTM(X, mg.Tensor(np.zeros((1, 2, 5), np.float32))), ShapeError, "LSTM", "(1, 2, 5)"),
    "a sequence of another dtype": (lambda: LSTM(X64), DtypeError, "LSTM", "float64"),
    "lengths of scan": (lambda: mg.scan(cell, None, X, H, lengths=[9, 9]), ShapeError, "scan", "from 9 to 9"),
    "scan over vectors": (lambda: mg.scan(cell, None, X[0, 0], H), ShapeError, "scan", "(3,)"),
    "scan over no steps": (lambda: mg.scan(cell, None, X[:0], H), ShapeError, "scan", "(0, 2, 3)"),
    "scan with a state of another batch": (lambda: mg.scan(cell, None, X, H[:1]), ShapeError, "scan", "(1, 5)"),
    # graphs
    "backward of six": (RECORDED.backward, GraphError, "backward", "(2, 3)"),
    "backward of a constant": (F32.backward, GraphError, "backward", "nothing recorded"),
    "a cotangent of another shape": (
        lambda: mg.Tensor(F32.data, True).backward(F32[0]),
        GraphError,
        "backward",
        "(3,)",
    ),
    "a jacobian of a container": (lambda: mg.jacobian(lambda d: d["a"])({"a": F32}), GraphError, "jacobian", "dict in"),
    "an unknown device": (lambda: mg.tensor([1.0], device="abacus"), DeviceError, "device", "'abacus'"),
}


VIEWS = {"reshape", "transpose", "matrix_transpose", "getitem"}  # they compute nothing


@pytest.mark.parametrize("name", CASES)
def test_the_error_says_where_and_what_it_got_and_expected_before_anything_is_computed(name):
    call, kind, where, got = CASES[name]
    done = []
    with pytest.raises(kind) as caught, observe(lambda op, inputs, attrs, out: done.append(op.name)):
        call()
    text = str(caught.value)
    assert type(caught.value) is kind
    assert text.startswith(f"[{where}] ") and got in text and "\n" not in text
    assert re.match(r"\[\w+\] got .+, expected .+", text)
    assert set(done) <= VIEWS


def test_every_error_is_of_the_family_and_of_the_class_that_python_would_raise():
    assert issubclass(ShapeError, ValueError) and issubclass(DtypeError, TypeError)
    assert issubclass(IndexingError, IndexError) and issubclass(AnomalyError, FloatingPointError)
    for kind in (ShapeError, DtypeError, IndexingError, DeviceError, GraphError, AnomalyError):
        assert issubclass(kind, MinigradError)


PAIRS = [name for name in sorted(filter(is_elementwise, REGISTRY)) if len(REGISTRY[name].domain) == 2]
UNARY = [name for name in sorted(filter(is_elementwise, REGISTRY)) if len(REGISTRY[name].domain) == 1]


@pytest.mark.parametrize("name", PAIRS)
def test_every_operation_on_pairs_refuses_shapes_and_dtypes_that_do_not_fit(name):
    f = REGISTRY[name].function
    with pytest.raises(ShapeError, match=rf"^\[{name}\] got \(2, 3\) and \(4, 2, 3, 1\), expected"):
        f(F32, X[..., None])
    with pytest.raises(DtypeError, match=rf"^\[{name}\] got float64 and float32, expected"):
        f(F64, F32)


@pytest.mark.parametrize("name", [name for name in UNARY if name != "neg"])
def test_every_function_of_a_float_refuses_integers(name):
    with pytest.raises(DtypeError, match=rf"^\[{name}\] got int64, expected float32 or float64; cast"):
        REGISTRY[name].function(INTS)


# ------------------------------------------------------------------------------------------------ anomaly mode


def line(text):
    """Number of the line of this file that holds a comment."""
    lines = Path(__file__).read_text().splitlines()
    return next(i for i, each in enumerate(lines, 1) if each.endswith(f"# {text}"))


def failure(f):
    with mg.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        f()
    return str(caught.value)


def test_anomaly_mode_names_the_operation_its_shapes_and_the_line_of_a_forward_nan():
    x = mg.tensor([[1.0, -1.0, 4.0]])

    def f():
        y = x * 2.0
        return mg.log(y)  # forward NaN

    text = failure(f)
    assert text.startswith("[log] forward of inputs (1, 3) gave 1 NaN and 0 Inf of 3 values")
    assert "finite ones in [0.693, 2.08]" in text and text.endswith(f"{__file__}:{line('forward NaN')}")


def test_anomaly_mode_names_an_infinity_too():
    a, b = mg.tensor([1.0, 2.0]), mg.tensor([0.0, 1.0])
    text = failure(lambda: a / b)  # forward Inf
    assert text.startswith("[div] forward of inputs (2,), (2,) gave 0 NaN and 1 Inf of 2 values")
    assert text.endswith(f"{__file__}:{line('forward Inf')}")


def test_anomaly_mode_names_the_line_of_the_operation_whose_gradient_is_not_finite():
    x, w = mg.tensor([0.0, 4.0], requires_grad=True), mg.tensor([2.0, 2.0])

    def f():
        y = mg.sqrt(x)  # backward Inf
        (y * w).sum().backward()

    text = failure(f)
    assert text.startswith("[sqrt] backward gave 0 NaN and 1 Inf of 2 values") and "for input 0 of (2,)" in text
    assert text.endswith(f"{__file__}:{line('backward Inf')}")
    assert x.grad is None


def test_anomaly_mode_sees_a_backward_nan_of_a_graph_recorded_outside():
    x = mg.tensor([0.0], requires_grad=True)
    y = (mg.sqrt(x) * 0.0).sum()
    text = failure(y.backward)
    assert text.startswith("[sqrt] backward gave 1 NaN") and "recorded without anomaly mode" in text


def test_anomaly_mode_sees_gradients_by_transforms():
    assert failure(lambda: mg.grad(mg.sqrt)(mg.tensor(0.0))).startswith("[sqrt] backward gave 0 NaN and 1 Inf")


def test_anomaly_mode_lets_finite_numbers_integers_and_masks_pass_and_ends():
    with mg.detect_anomaly():
        x = mg.tensor([1.0, 2.0], requires_grad=True)
        (mg.where(x > 1.5, mg.log(x), x) * mg.embedding(x, [0, 1])).sum().backward()
        assert x.grad is not None
    assert np.isnan(mg.log(mg.tensor(-1.0)).item())
