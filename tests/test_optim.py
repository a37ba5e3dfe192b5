"""Optimisers against PyTorch's vectors and their own equations, clipping, schedules."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import read, write

VECTORS = json.loads((Path(__file__).parent / "data" / "torch_optim.json").read_text())
KINDS = VECTORS["optimisers"]
every_kind = pytest.mark.parametrize("kind", KINDS)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-13}


def parameter(values, dtype=np.float32):
    return mg.tensor(np.array(values, dtype), requires_grad=True)


def make(kind, parameters):
    return getattr(optim, KINDS[kind]["class"])(parameters, **KINDS[kind]["options"])


def give(parameters, gradients):
    for p, g in zip(parameters, gradients):
        p.grad = None if g is None else mg.tensor(np.array(g, p.dtype))


# ------------------------------------------------------------------------------------------------------ optimisers


@both_dtypes
@every_kind
def test_five_steps_equal_torch_also_where_a_gradient_is_missing(kind, dtype):
    """The second parameter has no gradient in three of the steps: it stays, and its own steps are counted."""
    parameters = [parameter(p, dtype) for p in VECTORS["start"]]
    opt = make(kind, parameters)
    for gradients, expected in zip(VECTORS["gradients"], KINDS[kind]["path"]):
        give(parameters, gradients)
        opt.step()
        for p, e in zip(parameters, expected):
            assert p.dtype == dtype
            np.testing.assert_allclose(p.numpy(), e, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@both_dtypes
@every_kind
@pytest.mark.parametrize("through_file", [False, True])
def test_state_dict_continues_to_the_last_bit(kind, dtype, through_file, tmp_path):
    def run(parameters, opt, steps):
        for gradients in steps:
            give(parameters, [*gradients, 0.5])
            opt.step()

    parameters = [parameter(p, dtype) for p in [*VECTORS["start"], 1.0]]  # one of them without axes
    opt = make(kind, parameters)
    run(parameters, opt, VECTORS["gradients"][:2])
    again = [parameter(p.numpy(), dtype) for p in parameters]
    state = opt.state_dict()
    if through_file:
        write(tmp_path / "state", state, {})
        state, _ = read(tmp_path / "state")
    resumed = make(kind, again)
    resumed.load_state_dict(state)
    run(parameters, opt, VECTORS["gradients"][2:])
    run(again, resumed, VECTORS["gradients"][2:])
    for p, q in zip(parameters, again):
        assert p.numpy().tobytes() == q.numpy().tobytes()


def test_state_dict_holds_copies_and_loading_takes_any_memory_layout():
    w, v = parameter(np.ones((3, 2))), parameter(np.ones((3, 2)))
    one, other = optim.SGD([w], lr=1.0, momentum=0.5), optim.SGD([v], lr=1.0, momentum=0.5)
    give([w, v], [np.ones((3, 2))] * 2)
    one.step()
    other.load_state_dict({name: np.asfortranarray(a) for name, a in one.state_dict().items()})
    for array in one.state_dict().values():
        array *= 0
    v.data = w.data
    for _ in range(3):
        one.step()
        other.step()
    np.testing.assert_array_equal(w, v)


@every_kind
def test_step_without_any_gradient_changes_nothing(kind):
    w = parameter([1.0, 2.0])
    opt = make(kind, [w])
    opt.step()
    np.testing.assert_array_equal(w, np.array([1.0, 2.0], np.float32))
    assert list(opt.state_dict()) == ["steps"]


@every_kind
def test_arrays_taken_before_a_step_and_the_gradient_stay_unchanged(kind):
    w = parameter([1.0, 2.0])
    (w * w).sum().backward()
    taken, g = w.numpy(), w.grad.numpy()
    make(kind, [w]).step()
    np.testing.assert_array_equal(taken, np.array([1.0, 2.0], np.float32))
    np.testing.assert_array_equal(g, np.array([2.0, 4.0], np.float32))
    assert not np.array_equal(w.numpy(), taken)


@every_kind
def test_gradient_in_another_memory_layout_gives_the_same_step(kind):
    g = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
    one, other = parameter(np.ones((3, 2))), parameter(np.ones((3, 2)))
    (one.T * g).sum().backward()
    give([other], [g.T.copy()])
    for w in (one, other):
        make(kind, [w]).step()
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, 0.05, momentum=0.5), lambda p: optim.Adagrad(p, 0.5), lambda p: optim.RMSprop(p, 0.02),
    lambda p: optim.Adam(p, 0.1), lambda p: optim.AdamW(p, 0.1, weight_decay=0.0),
])  # fmt: skip
def test_a_quadratic_is_minimised(make):
    w, target = parameter([3.0, -2.0]), np.array([1.0, 1.0], np.float32)
    opt = make([w])
    for _ in range(300):
        opt.zero_grad()
        mg.square(w - target).sum().backward()
        opt.step()
    np.testing.assert_allclose(w.numpy(), target, atol=0.05)


@given(scale=st.floats(1e-2, 1e6), sign=st.sampled_from([-1.0, 1.0]))
def test_first_step_of_adam_is_the_learning_rate_whatever_the_scale(scale, sign):
    w = parameter([0.0])
    give([w], [[sign * scale]])
    optim.Adam([w], lr=0.1).step()
    np.testing.assert_allclose(w.numpy(), [-sign * 0.1], rtol=1e-4)


def test_adamw_shrinks_the_parameter_and_adam_adds_to_the_gradient():
    w = parameter([10.0])
    give([w], [[0.0]])
    optim.AdamW([w], lr=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(w.numpy(), [9.5])
    give([w], [[0.0]])
    optim.Adam([w], lr=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(w.numpy(), [9.4], rtol=1e-5)


@both_dtypes
@every_kind
def test_tiny_and_zero_gradients_give_finite_steps(kind, dtype):
    w = parameter([1.0, 1.0, 1.0], dtype)
    opt = make(kind, [w])
    for _ in range(3):
        give([w], [[0.0, 1e-30, -1e-38]])
        opt.step()
    assert np.isfinite(w.numpy()).all()


def test_learning_rate_may_be_set_between_steps():
    w = parameter([1.0])
    opt = optim.SGD([w], lr=0.5)
    for lr, expected in ((0.5, 0.5), (0.25, 0.25), (0.0, 0.25)):
        opt.lr = lr
        give([w], [[1.0]])
        opt.step()
        assert w.item() == expected


def test_zero_grad_removes_the_gradients():
    w = parameter([1.0])
    give([w], [[1.0]])
    optim.SGD([w], lr=1.0).zero_grad()
    assert w.grad is None


def test_two_runs_agree_to_the_last_bit():
    def run():
        layer = nn.LSTM(3, 8, generator=0)
        opt = optim.Adam(layer.parameters())
        x = mg.tensor(np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32))
        for _ in range(3):
            opt.zero_grad()
            mg.square(layer(x)[0]).sum().backward()
            opt.step()
        return [p.numpy().tobytes() for p in layer.parameters()]

    assert run() == run()


# ---------------------------------------------------------------------------------------------------------- errors

W = parameter([1.0, 2.0])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: optim.SGD([], 0.1), r"\[SGD\] got no parameter"),
        (lambda: optim.SGD([mg.tensor([1.0])], 0.1), r"\[SGD\] got something that is no parameter"),
        (lambda: optim.SGD([W * 2.0], 0.1), "leaf tensors"),
        (lambda: optim.SGD([np.ones(2)], 0.1), "leaf tensors"),
        (lambda: optim.Adam([W, W]), r"\[Adam\] got a parameter twice"),
        (lambda: optim.SGD([W], -0.1), r"lr=-0.1, expected a number >= 0"),
        (lambda: optim.SGD([W], math.nan), "lr=nan"),
        (lambda: optim.SGD([W], 0.1, momentum=-1.0), "momentum=-1.0"),
        (lambda: optim.Adagrad([W], weight_decay=-1.0), "weight_decay=-1.0"),
        (lambda: optim.RMSprop([W], alpha=1.0), r"alpha=1.0, expected a number >= 0 and < 1"),
        (lambda: optim.Adam([W], betas=(0.9, 1.0)), r"\[Adam\] got beta2=1.0"),
        (lambda: optim.AdamW([W], eps=-1.0), r"\[AdamW\] got eps=-1.0"),
    ],
)
def test_wrong_settings_are_named_errors(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("g", [np.ones(1, np.float32), np.ones((1, 2), np.float32), np.ones(2)])
def test_a_gradient_of_another_shape_or_dtype_is_an_error_and_no_step(g):
    w = parameter([1.0, 2.0])
    w.grad = mg.tensor(g)
    opt = optim.SGD([w], 0.1)
    with pytest.raises(mg.errors.ShapeError, match=r"\[SGD\] got a gradient .*, expected \(2,\) float32"):
        opt.step()
    np.testing.assert_array_equal(w, np.array([1.0, 2.0], np.float32))


def stepped(make, shape=(2,)):
    w = parameter(np.ones(shape))
    give([w], [np.ones(shape)])
    opt = make([w])
    opt.step()
    return opt


FOREIGN = {
    "nothing": {},
    "another optimiser": stepped(optim.Adam).state_dict(),
    "one with as many buffers": stepped(lambda p: optim.Adagrad(p)).state_dict(),
    "another shape": stepped(lambda p: optim.SGD(p, 0.1), (3,)).state_dict(),
    "more parameters": optim.SGD([parameter([1.0]), parameter([1.0])], 0.1).state_dict(),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_state_is_an_error_and_changes_nothing(case):
    opt = stepped(lambda p: optim.SGD(p, 0.1))
    before = opt.state_dict()
    with pytest.raises(mg.errors.MinigradError, match=r"\[SGD\]"):
        opt.load_state_dict(FOREIGN[case])
    for name, array in opt.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


# -------------------------------------------------------------------------------------------------------- clipping


@both_dtypes
@pytest.mark.parametrize("case", VECTORS["clip"], ids=lambda c: f"max_norm={c['max_norm']}")
def test_clipping_by_norm_equals_torch(case, dtype):
    parameters = [parameter(np.zeros(n), dtype) for n in (3, 2)]
    give(parameters, VECTORS["gradients"][2])
    norm = optim.clip_grad_norm_((p for p in parameters), case["max_norm"])
    assert norm == pytest.approx(case["norm"], rel=1e-6)
    for p, e in zip(parameters, case["clipped"]):
        assert p.grad.dtype == dtype
        np.testing.assert_allclose(p.grad.numpy(), e, rtol=2e-6)


gradient_lists = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9)


@given(gradient_lists, st.floats(1e-3, 1e3))
def test_clipping_by_norm_keeps_the_direction_and_bounds_the_norm(values, max_norm):
    w, other = parameter(np.zeros(len(values))), parameter([1.0])
    give([w], [values])
    norm = optim.clip_grad_norm_([w, other], max_norm)
    g = w.grad.numpy().astype(np.float64)
    assert norm == pytest.approx(np.linalg.norm(np.float64(values)), rel=1e-5, abs=1e-30)
    assert np.linalg.norm(g) <= max_norm * (1 + 1e-5)
    np.testing.assert_allclose(g * max(1.0, norm / max_norm), values, rtol=1e-5, atol=1e-30)
    assert other.grad is None


def test_a_norm_over_many_elements_is_exact():
    w = parameter(np.zeros(100_003))
    give([w], [np.full(100_003, 0.1)])
    assert optim.clip_grad_norm_([w], 1e9) == pytest.approx(0.1 * math.sqrt(100_003), rel=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_clipping_by_norm_tells_of_nan_and_inf_and_leaves_the_gradients(bad):
    w, v = parameter([0.0, 0.0]), parameter([0.0])
    give([w, v], [[3.0, bad], [100.0]])
    norm = optim.clip_grad_norm_([w, v], 1.0)
    assert not math.isfinite(norm)
    assert math.isnan(norm) == math.isnan(bad)
    np.testing.assert_array_equal(w.grad, np.array([3.0, bad], np.float32))
    assert v.grad.item() == 100.0


@given(gradient_lists, st.floats(1e-3, 1e3))
def test_clipping_by_value_is_numpys_clip(values, bound):
    w, other = parameter(np.zeros(len(values))), parameter([1.0])
    give([w], [values])
    optim.clip_grad_value_((p for p in [w, other]), bound)
    np.testing.assert_array_equal(w.grad, np.clip(np.float32(values), -np.float32(bound), np.float32(bound)))
    assert other.grad is None


def test_clipping_by_value_turns_inf_into_the_bound_and_keeps_nan():
    w = parameter([0.0, 0.0, 0.0])
    give([w], [[math.inf, -math.inf, math.nan]])
    optim.clip_grad_value_([w], 2.0)
    np.testing.assert_array_equal(w.grad, np.array([2.0, -2.0, math.nan], np.float32))


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("clip", [optim.clip_grad_norm_, optim.clip_grad_value_])
def test_a_bound_that_is_not_positive_is_a_named_error(clip, bound):
    with pytest.raises(ValueError, match=rf"\[{clip.__name__}\] .* expected a positive number"):
        clip([W], bound)


# ------------------------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (optim.constant(), {0: 1, 1000: 1}),
        (optim.step_decay(10, 0.5), {0: 1, 9: 1, 10: 0.5, 29: 0.25}),
        (optim.exponential(0.9), {0: 1, 2: 0.81}),
        (optim.inverse_sqrt(100), {0: 1, 100: 1, 400: 0.5, 10_000: 0.1}),
        (optim.cosine(100), {0: 1, 25: (2 + math.sqrt(2)) / 4, 50: 0.5, 100: 0, 1000: 0}),
        (optim.cosine(100, floor=0.2), {0: 1, 50: 0.6, 100: 0.2, 1000: 0.2}),
        (optim.warmup(4), {0: 0, 1: 0.25, 4: 1, 100: 1}),
        (optim.warmup(0), {0: 1, 5: 1}),
        (optim.warmup(10, optim.cosine(100)), {0: 0, 5: 0.5 * (1 + math.cos(math.pi * 0.05)) / 2, 50: 0.5, 100: 0}),
    ],
)
def test_schedules_have_their_documented_values(schedule, values):
    for step, value in values.items():
        assert schedule(step) == pytest.approx(value, abs=1e-12)


@given(steps=st.integers(1, 1000), a=st.floats(0, 2000), b=st.floats(0, 2000))
def test_decaying_schedules_never_rise_and_warmup_never_falls(steps, a, b):
    first, second = min(a, b), max(a, b)
    for schedule in (
        optim.step_decay(steps, 0.5),
        optim.exponential(0.99),
        optim.inverse_sqrt(steps),
        optim.cosine(steps, 0.1),
    ):
        assert 1 >= schedule(first) >= schedule(second) >= 0
    assert 0 <= optim.warmup(steps)(first) <= optim.warmup(steps)(second) <= 1


@pytest.mark.parametrize("make", [lambda n: optim.step_decay(n, 0.5), optim.inverse_sqrt, optim.cosine])
@pytest.mark.parametrize("steps", [0, -1, math.nan])
def test_a_schedule_over_no_steps_is_a_named_error(make, steps):
    with pytest.raises(ValueError, match="expected a positive number"):
        make(steps)
