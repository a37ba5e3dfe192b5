"""RNN, GRU and LSTM by their definition: equations, raggedness, directions, stacking, layouts, errors."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from recurrent_cases import (
    SMALL,
    Sizes,
    all_sizes,
    assert_close,
    assert_same,
    build,
    every_kind,
    gradients,
    padding,
    poisoned,  # noqa: F401
    problem,
    way,  # noqa: F401
)

import minigrad as mg
from minigrad.engine.tree import leaves, rebuild, tree_map
from minigrad.nn.layers import random_mask

# ---------------------------------------------------------------------------------------------------- values


def test_worked_example_of_the_lecture_notes():
    rnn = mg.nn.RNN(4, 3)
    weights = [[0.1, 0.2, 0.3, 0.4], [-0.1, -0.2, 0.3, 0.1], [0.1, 0.2, -0.3, -0.4]]
    rnn.load_state_dict({"weight_ih_l0": weights, "weight_hh_l0": np.ones((3, 3)), "bias_l0": [0.1, 0.2, 0.3]})
    a, last = rnn(mg.tensor([[[1.0, 0.0, 0.0, 0.0]]]))
    np.testing.assert_allclose(a.numpy()[0, 0], [0.19738, 0.09967, 0.37995], atol=5e-6)
    assert_same([last], [a])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def equations(kind, p, x, state):
    """One step in NumPy, gate by gate, from the equations of the notes."""
    gates = {"rnn": 1, "gru_simple": 2, "gru": 3, "lstm": 4}
    k = gates.get(kind, gates.get(kind.split("_")[0]))
    W, U, b = (np.split(p[name], k) for name in ("weight_ih_l0", "weight_hh_l0", "bias_l0"))

    def a(i, h):
        return x @ W[i].T + h @ U[i].T + b[i]

    if kind == "lstm":
        h, c = state
        c = sigmoid(a(1, h)) * c + sigmoid(a(0, h)) * np.tanh(a(2, h))
        h = sigmoid(a(3, h)) * np.tanh(c)
        return (h, c), h
    h = state
    if kind == "rnn_tanh":
        h = np.tanh(a(0, h))
    elif kind == "rnn_relu":
        h = np.maximum(a(0, h), 0)
    else:
        u = sigmoid(a(k - 2, h))
        if kind == "gru_simple":
            candidate = np.tanh(a(1, h))
        elif kind == "gru_before":
            candidate = np.tanh(a(2, sigmoid(a(0, h)) * h))
        else:
            candidate = np.tanh(x @ W[2].T + b[2] + sigmoid(a(0, h)) * (h @ U[2].T + p["bias_hn_l0"]))
        h = u * candidate + (1 - u) * h
    return h, h


@every_kind
@given(s=all_sizes())
@example(s=Sizes(1, 1, 1, 1, [1], 0))
def test_values_equal_the_equations_in_numpy(kind, s):
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-5)):
        layer, x, start = problem(kind, s, dtype)
        p = {name: value.astype(np.float64) for name, value in layer.state_dict().items()}
        state = tree_map(lambda h: h.numpy()[0].astype(np.float64), start)
        ys = []
        for x_t in x.numpy():
            state, y = equations(kind, p, x_t, state)
            ys.append(y)
        got = leaves(layer(x, start))
        assert {y.dtype for y in got} == {np.dtype(dtype)}
        assert_close(got, [np.stack(ys), *(h[None] for h in leaves(state))], tolerance)


@every_kind
def test_none_state_equals_zero_state(kind):
    layer, x, state = problem(kind, SMALL, num_layers=2, bidirectional=True)
    zeros = tree_map(lambda h: mg.tensor(np.zeros(h.shape)), state)
    for lengths in (None, SMALL.lengths):
        assert_same(leaves(layer(x, None, lengths)), leaves(layer(x, zeros, lengths)))


@every_kind
def test_initial_state_and_biases_matter(kind):
    layer, x, state = problem(kind, SMALL)
    base = layer(x, state)[0].numpy()
    assert not np.allclose(base, layer(x)[0].numpy())
    for name in [name for name in layer.state_dict() if name.startswith("bias")]:
        setattr(layer, name, mg.tensor(getattr(layer, name).numpy() + 0.1))
        assert not np.allclose(base, layer(x, state)[0].numpy())


@every_kind
@given(s=all_sizes(), cut=st.integers(0, 5))
def test_all_steps_at_once_equal_two_parts_with_the_state_carried(kind, s, cut):
    layer, x, state = problem(kind, s, num_layers=2)
    whole, last = layer(x, state)
    ys = []
    for part in (x[:cut], x[cut:]):
        if len(part):
            y, state = layer(part, state)
            ys.append(y)
    assert_close([whole, *leaves(last)], [mg.concat(ys), *leaves(state)])


@every_kind
def test_one_call_equals_a_call_for_each_step_with_gradients(kind):
    layer, x, state = problem(kind, SMALL)
    g = mg.tensor(np.random.default_rng(1).standard_normal((SMALL.T, SMALL.B, SMALL.H)))
    last = tree_map(lambda h: mg.tensor(np.zeros(h.shape)), state)
    _, expected = gradients(layer, x, state, gs=(g, last))

    def stepwise(x, state):
        ys = []
        for t in range(SMALL.T):
            y, state = layer(x[t : t + 1], state)
            ys.append(y)
        return mg.concat(ys)

    _, pull = mg.vjp(stepwise, x, state)
    assert_close(leaves(pull(g)), expected[: 1 + layer.states])


# ------------------------------------------------------------------------------------------------ ragged lengths


@every_kind
@given(s=all_sizes(), bidirectional=st.booleans())
@example(s=SMALL, bidirectional=True)
def test_nan_in_padding_changes_nothing(kind, s, bidirectional):
    layer, x, state = problem(kind, s, num_layers=2, bidirectional=bidirectional)
    behind = padding(s)
    dirty = x.numpy().copy()
    dirty[behind] = np.nan
    clean = np.where(behind[..., None], 0.0, x.numpy())
    out, grads = gradients(layer, mg.tensor(clean), state, s.lengths)
    out_dirty, grads_dirty = gradients(layer, mg.tensor(dirty), state, s.lengths)
    assert_same(out_dirty, out)
    assert_same(grads_dirty, grads)
    assert all(np.isfinite(g.numpy()).all() for g in grads_dirty)
    assert not out[0].numpy()[behind].any()
    assert not grads[0].numpy()[behind].any()


@every_kind
def test_nan_in_the_cotangent_of_padding_changes_nothing(kind):
    layer, x, state = problem(kind, SMALL, bidirectional=True)
    out = leaves(layer(x, state))
    rng = np.random.default_rng(0)
    gs = [rng.standard_normal(y.shape) for y in out]
    dirty = [np.where(padding(SMALL)[..., None], np.nan, gs[0]), *gs[1:]]
    like = layer(x, state)
    one, other = (rebuild(like, [mg.tensor(g) for g in c]) for c in (gs, dirty))
    _, expected = gradients(layer, x, state, SMALL.lengths, one)
    _, got = gradients(layer, x, state, SMALL.lengths, other)
    assert_same(got, expected)


@every_kind
@given(s=all_sizes(), bidirectional=st.booleans())
@example(s=SMALL, bidirectional=True)
def test_ragged_batch_equals_each_row_alone(kind, s, bidirectional):
    layer, x, state = problem(kind, s, bidirectional=bidirectional)
    (y, *last), (gx, *more) = gradients(layer, x, state, s.lengths)
    start, g_start, g_parameters = leaves(state), more[: layer.states], more[layer.states :]
    rng = np.random.default_rng(0)
    gs = [rng.standard_normal(r.shape) for r in (y, *last)]  # as in ``gradients``
    total = [np.zeros(g.shape) for g in g_parameters]
    for b, n in enumerate(s.lengths):
        if n == 0:
            assert_same([h.numpy()[:, b] for h in last], [h.numpy()[:, b] for h in start])
            assert_same([g.numpy()[:, b] for g in g_start], [g[:, b] for g in gs[1:]])
            continue
        row = rebuild(state, [mg.tensor(h.numpy()[:, b : b + 1]) for h in start])
        g_row = [mg.tensor(gs[0][:n, b : b + 1]), *(mg.tensor(g[:, b : b + 1]) for g in gs[1:])]
        like = (0, rebuild(state, start))
        out, grads = gradients(layer, mg.tensor(x.numpy()[:n, b : b + 1]), row, gs=rebuild(like, g_row))
        assert_close(out, [y.numpy()[:n, b : b + 1], *(h.numpy()[:, b : b + 1] for h in last)])
        row_grads = [gx.numpy()[:n, b : b + 1], *(g.numpy()[:, b : b + 1] for g in g_start)]
        assert_close(grads[: 1 + layer.states], row_grads)
        total = [a + g.numpy() for a, g in zip(total, grads[1 + layer.states :])]
    assert_close(g_parameters, total, 1e-10)


@every_kind
def test_full_lengths_equal_no_lengths(kind):
    layer, x, state = problem(kind, SMALL, bidirectional=True)
    for lengths in ([4, 4, 4], np.full(3, 4, np.int32), mg.tensor([4, 4, 4])):
        assert_same(leaves(layer(x, state, lengths)), leaves(layer(x, state)))


# ---------------------------------------------------------------------------------- directions, layers, layouts


def flip_rows(x, lengths):
    """Each row's own steps in reverse order; what lies behind stays. x (T, B, ...)."""
    out = np.array(x)
    for b, n in enumerate(lengths):
        out[:n, b] = out[:n, b][::-1]
    return mg.tensor(out)


@every_kind
@given(s=all_sizes())
def test_reverse_equals_reversed_input_and_output(kind, s):
    layer, x, state = problem(kind, s)
    cell, p = layer.cell(), layer.cell_parameters("l0")
    start = tree_map(lambda h: h[0], state)
    for lengths in (None, s.lengths):
        n = lengths or [s.T] * s.B
        ys, last = mg.scan(cell, p, x, start, lengths=lengths, reverse=True)
        expected, end = mg.scan(cell, p, flip_rows(x, n), start, lengths=lengths)
        assert_close([ys, *leaves(last)], [flip_rows(expected, n), *leaves(end)])


@every_kind
def test_bidirectional_is_both_directions_concatenated(kind):
    layer, x, state = problem(kind, SMALL, bidirectional=True)
    one, own = build(kind, SMALL.I, SMALL.H), layer.state_dict()
    for lengths in (None, SMALL.lengths):
        n = lengths or [SMALL.T] * SMALL.B
        one.load_state_dict({name: v for name, v in own.items() if not name.endswith("_reverse")})
        forward, end = one(x, tree_map(lambda h: h[:1], state), lengths)
        one.load_state_dict({name[: -len("_reverse")]: v for name, v in own.items() if name.endswith("_reverse")})
        backward, begin = one(flip_rows(x, n), tree_map(lambda h: h[1:], state), lengths)
        ys = mg.concat([forward, flip_rows(backward, n)], -1)
        last = [mg.concat(pair) for pair in zip(leaves(end), leaves(begin))]
        assert_close(leaves(layer(x, state, lengths)), [ys, *last])


def single(layer, kind, number, width):
    """Layer ``number`` of a stack as a layer of its own."""
    one = build(kind, width, layer.hidden_size)
    mark = f"_l{number}"
    one.load_state_dict({n[: -len(mark)] + "_l0": v for n, v in layer.state_dict().items() if n.endswith(mark)})
    return one


@every_kind
def test_stacked_layers_equal_layers_one_after_another(kind):
    layer, x, state = problem(kind, SMALL, num_layers=3)
    for lengths in (None, SMALL.lengths):
        y, last = x, []
        for k in range(3):
            one = single(layer, kind, k, SMALL.H if k else SMALL.I)
            y, end = one(y, tree_map(lambda h: h[k : k + 1], state), lengths)
            last.append(leaves(end))
        assert_close(leaves(layer(x, state, lengths)), [y, *(mg.concat(column) for column in zip(*last))])


@every_kind
def test_batch_first_exchanges_the_first_axes_of_input_and_output_only(kind):
    layer, x, state = problem(kind, SMALL, num_layers=2, bidirectional=True)
    y, last = layer(x, state, SMALL.lengths)
    layer.batch_first = True
    z, end = layer(mg.swapaxes(x, 0, 1), state, SMALL.lengths)
    assert_same([z, *leaves(end)], [mg.swapaxes(y, 0, 1), *leaves(last)])


@every_kind
def test_inputs_in_any_memory_layout_give_the_same_and_stay_unchanged(kind):
    layer, x, state = problem(kind, SMALL, num_layers=2)
    base = [x.numpy(), *(h.numpy() for h in leaves(state))]
    out, grads = gradients(layer, x, state, SMALL.lengths)
    for lay in (np.asfortranarray, lambda a: np.repeat(a, 2, -1)[..., ::2], lambda a: a[::-1].copy()[::-1]):
        arrays = [lay(a) for a in base]
        tensors = [mg.Tensor(a) for a in arrays]  # no copy
        again, grads_again = gradients(layer, tensors[0], rebuild(state, tensors[1:]), SMALL.lengths)
        assert_close(again + grads_again, out + grads)
        assert_same(arrays, base)


# ------------------------------------------------------------------------------------------------------- dropout


@every_kind
def test_dropout_of_zero_equals_none(kind):
    layer, x, state = problem(kind, SMALL, num_layers=2)
    zero, _, _ = problem(kind, SMALL, num_layers=2, dropout=0.0)
    assert_same(leaves(zero(x, state)), leaves(layer(x, state)))


@every_kind
def test_dropout_acts_between_layers_in_training_only(kind):
    rng = np.random.default_rng(3)
    layer, x, _ = problem(kind, SMALL, num_layers=2)
    plain = layer(x)
    layer.dropout.p, layer.dropout.generator = 0.5, rng
    assert_same(leaves(layer.eval()(x)), leaves(plain))
    assert_same(leaves(layer(x)), leaves(plain))  # and no mask was drawn
    mask = random_mask(0.5, x, (SMALL.T, SMALL.B, SMALL.H), np.random.default_rng(3)).numpy()
    first, end = single(layer, kind, 0, SMALL.I)(x)
    expected, last = single(layer, kind, 1, SMALL.H)(first * mask)
    got, state = layer.train()(x)
    assert_close([got, *leaves(state)], [expected, *(mg.concat(pair) for pair in zip(leaves(end), leaves(last)))])


def test_dropout_draws_a_new_mask_at_every_call_and_repeats_with_the_seed():
    def run():
        layer = mg.nn.LSTM(2, 8, num_layers=2, dropout=0.5, generator=7)
        x = mg.tensor(np.ones((3, 2, 2), np.float32))
        return [layer(x)[0].numpy() for _ in range(2)]

    a, b = run()
    assert not np.array_equal(a, b)
    assert_same(run(), [a, b])


def test_the_output_of_the_last_layer_is_not_dropped():
    layer, x, state = problem("rnn_tanh", SMALL)
    layer.dropout.p = 0.9
    assert_same(leaves(layer(x, state)), leaves(layer.eval()(x, state)))


# -------------------------------------------------------------------------------------------------------- errors

X = np.zeros((4, 2, 3), np.float32)
H = np.zeros((1, 2, 5), np.float32)
WRONG = {
    "input size": (X[..., :2], None, None, mg.errors.ShapeError, r"\[LSTM\] got x \(4, 2, 2\), expected .* I = 3"),
    "axes": (X[0], None, None, mg.errors.ShapeError, r"\[LSTM\] got x \(2, 3\), expected \(T, B, I\)"),
    "no steps": (X[:0], None, None, mg.errors.ShapeError, "T >= 1"),
    "dtype": (X.astype(np.float64), None, None, mg.errors.DtypeError, r"\[LSTM\] got x of float64, expected float32"),
    "no tensor": (None, None, None, mg.errors.DtypeError, r"\[LSTM\] got NoneType"),
    "one state": (X, H, None, mg.errors.ShapeError, r"\[LSTM\] got state \(1, 2, 5\) float32, expected 2 tensor"),
    "batch of state": (X, (H[:, :1], H), None, mg.errors.ShapeError, r"\[LSTM\] got state \(1, 1, 5\)"),
    "width of state": (X, (H, H[..., 1:]), None, mg.errors.ShapeError, r"expected 2 .* = \(1, 2, 5\)"),
    "layers of state": (X, (np.zeros((2, 2, 5), np.float32), H), None, mg.errors.ShapeError, r"got state \(2, 2, 5\)"),
    "dtype of state": (X, (H, H.astype(np.float64)), None, mg.errors.ShapeError, r"\(1, 2, 5\) float64, expected"),
    "count of lengths": (X, None, [4], mg.errors.ShapeError, r"\[LSTM\] got lengths \(1,\), expected \(B,\) = \(2,\)"),
    "long length": (X, None, [4, 5], mg.errors.ShapeError, "lengths from 4 to 5, expected 0 <= length <= T = 4"),
    "negative length": (X, None, [-1, 4], mg.errors.ShapeError, "lengths from -1 to 4"),
    "fractional length": (X, None, [1.0, 2.0], mg.errors.DtypeError, r"\[LSTM\] got lengths of dtype float64"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_call_is_a_named_error(case):
    x, state, lengths, error, match = WRONG[case]
    state = tree_map(mg.tensor, state)
    with pytest.raises(error, match=match):
        mg.nn.LSTM(3, 5)(x if x is None else mg.tensor(x), state, lengths)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: mg.nn.LSTM(0, 2), r"\[LSTM\] got input_size=0"),
        (lambda: mg.nn.GRU(2, -1), r"\[GRU\] got hidden_size=-1"),
        (lambda: mg.nn.RNN(2, 2, 0), r"\[RNN\] got num_layers=0"),
        (lambda: mg.nn.RNN(2, 2, nonlinearity="gelu"), "'tanh' or 'relu'"),
        (lambda: mg.nn.GRU(2, 2, reset="never"), "'before' or 'after'"),
        (lambda: mg.nn.LSTM(2, 2, dropout=1.0), "0 <= p < 1"),
    ],
)
def test_wrong_construction_is_a_named_error(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_numpy_arrays_are_taken_as_inputs():
    layer = mg.nn.GRU(3, 5, generator=0)
    assert_same(leaves(layer(X + 1, H, np.array([4, 1]))), leaves(layer(mg.tensor(X + 1), mg.tensor(H), [4, 1])))
