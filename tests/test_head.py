"""The linear layer with its loss as one operation, against its definition: two operations and the logits between."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.kernels.cpu import head
from minigrad.testing import check_grad
from minigrad.testing.strategies import SEEDS, Arguments, lay_out, layouts
from minigrad.testing.suites import pair_test

DTYPES = st.sampled_from([np.float32, np.float64])
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
REDUCTIONS = st.sampled_from(["mean", "sum", "none"])
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def definition(x, weight, targets, bias=None, **options):
    return mg.cross_entropy(mg.linear(x, weight, bias), targets, **options)


@pytest.fixture(autouse=True)
def blocks_of_a_few_rows(monkeypatch):
    """So that small inputs have several blocks; uneven ones, too."""
    monkeypatch.setattr(head, "_ELEMENTS", 1)
    monkeypatch.setattr(head, "_ROWS_AT_LEAST", 7)


@st.composite
def problems(draw, most=40):
    """Arrays x, weight, bias (or None), targets, options, a cotangent; some of the targets are ignored, or all."""
    rng = np.random.default_rng(draw(SEEDS))
    dtype = draw(DTYPES)
    shape = draw(st.sampled_from([(), (0,), (1,), (6,), (7,), (8,), (15,), (3, 5), (5, 1, 3), (most,)]))
    h, v = draw(st.sampled_from((0, 1, 5, 16, 33))), draw(st.sampled_from((1, 2, 15, 16, 17, 33, 70)))
    arrays = [(*shape, h), (v, h), (v,)][: draw(st.sampled_from((2, 3)))]
    arrays = [lay_out(rng.standard_normal(s).astype(dtype), draw(layouts())) for s in arrays]
    targets = np.where(rng.random(shape) < draw(st.sampled_from((0.0, 0.3, 1.0))), -100, rng.integers(0, v, shape))
    options = {"reduction": draw(REDUCTIONS), "label_smoothing": draw(st.sampled_from((0.0, 0.2)))}
    g = rng.standard_normal(shape if options["reduction"] == "none" else ()).astype(dtype)
    return arrays, targets, options, draw(st.sampled_from((g, np.ones_like(g))))


def run(function, problem, wanted):
    """The loss and the gradients of the inputs that are wanted."""
    arrays, targets, options, g = problem
    x, w, *b = tensors = [mg.Tensor(a, requires_grad=r) for a, r in zip(arrays, wanted)]
    loss = function(x, w, targets, *b, **options)
    if any(wanted[: len(arrays)]):
        loss.backward(mg.Tensor(np.array(g)))
    else:
        assert not loss.requires_grad
    return loss, [t.grad for t in tensors]


def assert_equal(found, expected):
    assert (found is None) == (expected is None)
    if expected is not None:
        assert found.dtype == expected.dtype and found.shape == expected.shape
        bound = TOLERANCE[found.dtype.type] * max(1.0, np.abs(expected.numpy()).max(initial=0))
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


def arguments_of(problem):
    (x, weight, *bias), targets, options, _ = problem
    return Arguments(x, weight, targets, *bias, **options)


test_it_equals_its_definition = pair_test(mg.linear_cross_entropy, definition, problems().map(arguments_of))


@given(problem=problems())
def test_without_recording_it_is_the_same_number_to_the_last_bit(problem):
    with mg.no_grad():
        loss, _ = run(mg.linear_cross_entropy, problem, (False,) * 3)
    recorded, _ = run(mg.linear_cross_entropy, problem, (True,) * 3)
    assert loss.numpy().tobytes() == recorded.numpy().tobytes()


def test_derivatives_to_order_3_equal_numerical_ones():
    rng = np.random.default_rng(0)
    arrays, targets = [rng.standard_normal(s) for s in ((9, 3), (4, 3), (4,))], rng.integers(0, 4, 9)
    check_grad(lambda x, w, b: mg.linear_cross_entropy(x, w, targets, b, label_smoothing=0.1), *arrays, order=3)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint64"])
def test_targets_of_every_integer_dtype(dtype):
    x, w = np.random.default_rng(0).standard_normal((2, 5, 3))
    found, expected = (
        mg.value_and_grad(lambda x: mg.linear_cross_entropy(x, w, targets))(x)
        for targets in (np.arange(5, dtype=dtype), np.arange(5))
    )
    assert found[0].item() == expected[0].item() and found[1].numpy().tobytes() == expected[1].numpy().tobytes()
    check_grad(lambda w: mg.linear_cross_entropy(x, w, np.arange(5, dtype=dtype)), w, order=2)


def test_an_input_that_is_used_twice_has_one_gradient_at_every_order():
    w = np.random.default_rng(0).standard_normal((9, 9))
    check_grad(lambda w: mg.linear_cross_entropy(w, w, np.arange(9)), w, order=2)


@given(problem=problems(), bad=st.sampled_from((np.inf, -np.inf, np.nan)), where=st.sampled_from((0, 1, 2)))
def test_inf_and_nan_come_out_as_from_the_definition(problem, bad, where):
    arrays, *rest = problem
    arrays = [a.copy() for a in arrays]
    if where < len(arrays) and arrays[where].size:
        arrays[where].flat[0] = bad
    with np.errstate(all="ignore"):
        loss, gradients = run(mg.linear_cross_entropy, (arrays, *rest), (True,) * 3)
        expected, others = run(definition, (arrays, *rest), (True,) * 3)
    for found, other in zip((loss, *gradients), (expected, *others), strict=True):
        for test in (np.isnan, np.isposinf, np.isneginf):
            np.testing.assert_array_equal(test(found.numpy()), test(other.numpy()))


@BOTH
def test_classes_that_a_bias_of_minus_infinity_excludes(dtype):
    rng = np.random.default_rng(0)
    b = np.where(np.arange(20) % 3 == 0, -np.inf, rng.standard_normal(20)).astype(dtype)
    arrays = [rng.standard_normal((30, 5)).astype(dtype), rng.standard_normal((20, 5)).astype(dtype), b]
    problem = arrays, np.full(30, 4), {}, np.ones((), dtype)
    loss, gradients = run(mg.linear_cross_entropy, problem, (True,) * 3)
    expected, others = run(definition, problem, (True,) * 3)
    assert np.isfinite(loss.item())
    for found, other in zip((loss, *gradients), (expected, *others)):
        assert_equal(found, other)


@BOTH
def test_logits_of_10000_give_finite_losses_and_gradients(dtype):
    arrays = [np.array([[1e4], [-1e4]], dtype), np.array([[1], [-1], [0]], dtype)]
    problem = arrays, np.array([0, 0]), {"reduction": "none"}, np.ones(2, dtype)
    loss, gradients = run(mg.linear_cross_entropy, problem, (True, True))
    np.testing.assert_allclose(loss, [0, 2e4])
    np.testing.assert_allclose(gradients[0], [[0], [-2]])


def test_two_backward_passes_give_gradients_that_share_no_memory():
    rng = np.random.default_rng(0)
    x, w = (mg.Tensor(rng.standard_normal(s), requires_grad=True) for s in ((20, 4), (6, 4)))
    for reduction in ("mean", "none"):
        loss = mg.linear_cross_entropy(x, w, np.arange(20) % 6, reduction=reduction)
        found = []
        for _ in range(2):
            x.grad = w.grad = None
            loss.backward(mg.Tensor(np.ones(loss.shape)), retain_graph=True)
            found.append((x.grad, w.grad))
        for first, second in zip(*found):
            np.testing.assert_array_equal(first, second)
            assert not np.may_share_memory(first.data, second.data)


def large(n=4096, v=3000, h=8):
    rng = np.random.default_rng(0)
    x, w, b = (mg.tensor(rng.standard_normal(s).astype(np.float32), requires_grad=True) for s in ((n, h), (v, h), (v,)))
    return x, w, rng.integers(0, v, n), b


def test_large_sizes_on_all_threads_equal_the_definition_and_two_runs_agree_to_the_last_bit(monkeypatch):
    monkeypatch.undo()

    def once(function):
        x, w, targets, b = large(700)
        loss = function(x, w, targets, b, label_smoothing=0.1)
        loss.backward()
        return loss, x.grad, w.grad, b.grad

    first, second = once(mg.linear_cross_entropy), once(mg.linear_cross_entropy)
    for found, again, expected in zip(first, second, once(definition)):
        assert found.numpy().tobytes() == again.numpy().tobytes()
        assert_equal(found, expected)


def test_memory_stays_far_below_the_logits_and_is_free_after_backward(monkeypatch):
    monkeypatch.undo()
    x, w, targets, b = large()
    logits = 4 * targets.size * len(w)
    mg.linear_cross_entropy(x, w, targets, b).backward()  # the kernels are loaded now
    x.grad = w.grad = b.grad = None
    tracemalloc.start()
    try:
        loss = mg.linear_cross_entropy(x, w, targets, b)
        loss.backward()
        peak = tracemalloc.get_traced_memory()[1]
        x.grad = w.grad = b.grad = None
        left = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        definition(x, w, targets, b).backward()
        assert tracemalloc.get_traced_memory()[1] > 2 * logits  # so the measure sees them
    finally:
        tracemalloc.stop()
    assert peak < logits / 8
    assert left < 4 * w.size, "the loss must not keep the gradients"


F, W = np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32)
WRONG = {
    "another H": (lambda: mg.linear_cross_entropy(F, W[:, :2], [0, 1]), r"x \(2, 3\), weight \(4, 2\), expected x \("),
    "a bias of another size": (lambda: mg.linear_cross_entropy(F, W, [0, 1], W[0]), r"bias \(3,\)"),
    "a weight of one axis": (lambda: mg.linear_cross_entropy(F, W[0], [0, 1]), r"weight \(3,\)"),
    "x without axes": (lambda: mg.linear_cross_entropy(F[0, 0], W, 1), r"x \(\)"),
    "two dtypes": (lambda: mg.linear_cross_entropy(F, W.astype(float), [0, 1]), "float32 and float64"),
    "integers": (lambda: mg.linear_cross_entropy([[1]], [[1]], [0]), "int64 and int64"),
    "targets of another shape": (lambda: mg.linear_cross_entropy(F, W, [0]), r"targets \(1,\)"),
    "targets that are floats": (lambda: mg.linear_cross_entropy(F, W, [0.0, 1.0]), "targets of dtype float64"),
    "targets that are no class": (lambda: mg.linear_cross_entropy(F, W, [0, 4]), "targets from 0 to 4, expected 0 <="),
    "no class": (lambda: mg.linear_cross_entropy(F, W[:0], [-100, -100]), "V at least 1"),
    "a reduction that is none": (lambda: mg.linear_cross_entropy(F, W, [0, 1], reduction="max"), "reduction='max'"),
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("case", WRONG)
def test_errors_are_the_same_on_both_paths(case, fused, monkeypatch):
    make, match = WRONG[case]
    if not fused:
        monkeypatch.delattr("minigrad.kernels.cpu.linear_cross_entropy")
    with pytest.raises((mg.errors.MinigradError, ValueError), match=rf"^\[linear_cross_entropy\] .*{match}"):
        make()


def test_a_device_without_the_kernel_runs_the_definition(monkeypatch):
    monkeypatch.delattr("minigrad.kernels.cpu.linear_cross_entropy")
    x = mg.Tensor(F, requires_grad=True)
    loss = mg.linear_cross_entropy(x, W, [0, 1])
    loss.backward()
    assert loss.item() == pytest.approx(np.log(4)) and x.grad.shape == x.shape
