"""The linear layer with its loss on the emulated device, against the definition on the CPU."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.kernels import cpu, named

pytest.importorskip("greenlet", reason="the emulated device needs greenlet")
from minigrad.kernels.cuda import head
from minigrad.testing import simt

pytestmark = pytest.mark.cuda_sim
simt.device()
K = named("cuda-sim")
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


@pytest.fixture(autouse=True)
def blocks_of_a_few_rows(monkeypatch):
    monkeypatch.setattr(head, "_ELEMENTS", 1)
    monkeypatch.setattr(head, "_ROWS_AT_LEAST", 3)


@st.composite
def problems(draw):
    """Arrays x, weight, bias (or None), targets, options and a cotangent; some targets are ignored, or all."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    shape = draw(st.sampled_from([(), (0,), (1,), (3,), (2, 4)]))
    h, v = draw(st.sampled_from((0, 1, 5))), draw(st.sampled_from((1, 2, 17, 70)))
    arrays = [rng.standard_normal(s).astype(dtype) for s in [(*shape, h), (v, h), (v,)][: draw(st.integers(2, 3))]]
    targets = np.where(rng.random(shape) < draw(st.sampled_from((0.0, 0.3, 1.0))), -100, rng.integers(0, v, shape))
    reduction = draw(st.sampled_from(["mean", "sum", "none"]))
    g = rng.standard_normal(shape if reduction == "none" else ()).astype(dtype)
    return arrays, targets, {"reduction": reduction, "label_smoothing": draw(st.sampled_from((0.0, 0.2)))}, g


def definition(x, weight, targets, bias=None, **options):
    return mg.cross_entropy(mg.linear(x, weight, bias), targets, **options)


def run(function, problem, device, wanted=(True, True, True)):
    """The loss and the gradients of the inputs that are wanted."""
    arrays, targets, options, g = problem
    x, w, *b = tensors = [mg.tensor(a, device=device, requires_grad=r) for a, r in zip(arrays, wanted)]
    loss = function(x, w, targets, *b, **options)
    assert loss.device == device
    if any(wanted[: len(arrays)]):
        loss.backward(mg.tensor(g, device=device))
    return [loss.numpy(), *[None if t.grad is None else t.grad.numpy() for t in tensors]]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype and a.shape == b.shape
            bound = TOLERANCE[a.dtype.type] * max(1.0, np.abs(b).max(initial=0))
            np.testing.assert_allclose(a, b, rtol=0, atol=bound)


@given(problems(), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_it_equals_the_definition_on_the_cpu(problem, wanted):
    found = run(mg.linear_cross_entropy, problem, "cuda-sim", wanted)
    assert_equal(found, run(definition, problem, "cpu", wanted))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_several_blocks(dtype, reduction, smoothing):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(dtype) for s in ((2, 4, 5), (70, 5), (70,))]
    targets = np.where(rng.random((2, 4)) < 0.3, -100, rng.integers(0, 70, (2, 4)))
    g = rng.standard_normal((2, 4) if reduction == "none" else ()).astype(dtype)
    problem = arrays, targets, {"reduction": reduction, "label_smoothing": smoothing}, g
    assert_equal(run(mg.linear_cross_entropy, problem, "cuda-sim"), run(definition, problem, "cpu"))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("bias", [[0.0, -np.inf, 1.0], [np.inf, 0.0, 1.0]])
def test_infinite_logits_are_as_on_the_cpu(smoothing, bias):
    """Rows of -inf, of one inf, and of both, some of which count nothing."""
    bias = np.array(bias, np.float32)
    x, w = np.array([[-np.inf], [np.inf], [1.0], [np.inf]], np.float32), np.ones((3, 1), np.float32)
    targets, weights = np.array([0, 2, 1, 1]), np.array([1, 1, 1, 0], np.float32)
    found, _ = K.linear_cross_entropy(*map(K.from_numpy, (x, w, bias)), targets, weights, smoothing, [False] * 3)
    expected, _ = cpu.linear_cross_entropy(x, w, bias, targets, weights, smoothing, [False] * 3)
    np.testing.assert_array_equal(K.to_numpy(found), expected)


def test_two_runs_agree_to_the_last_bit():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((8, 5), (70, 5), (70,))]
    problem = arrays, rng.integers(0, 70, 8), {"label_smoothing": 0.1}, np.float32(0.5)
    for a, b in zip(*[run(mg.linear_cross_entropy, problem, "cuda-sim") for _ in range(2)]):
        assert a.tobytes() == b.tobytes()


def test_logits_of_a_thousand_and_minus_infinity():
    x = np.array([[1e3], [-1e3]], np.float32)
    w = np.array([[1.0], [-1.0], [0.5]], np.float32)
    bias = np.array([0.0, -np.inf, 0.0], np.float32)
    problem = [x, w, bias], np.array([0, 2]), {}, np.float32(1)
    for a, b in zip(run(mg.linear_cross_entropy, problem, "cuda-sim"), run(definition, problem, "cpu")):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_the_second_derivative_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    x, w, v = (rng.standard_normal(s) for s in ((3, 2), (4, 2), (3, 2)))

    def second(device):
        y, u = mg.tensor(x, device=device), mg.tensor(v, device=device)
        weight = mg.tensor(w, device=device)
        return mg.hvp(lambda t: mg.linear_cross_entropy(t, weight, [0, 3, 1]), y, u).numpy()

    np.testing.assert_allclose(second("cuda-sim"), second("cpu"), rtol=1e-10)
