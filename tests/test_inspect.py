"""What is measured inside a model equals what it should be by definition: gradients through time, gates, cosines."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_cases import SMALL, TEXT, make

import minigrad as mg
from minigrad import nn
from minigrad.engine.tree import leaves, rebuild
from minigrad.errors import UserError
from minigrad.models.lm import inspect

LAYERS = {
    "rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM,
    "rnn-relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
    "gru-after": lambda *a, **k: nn.GRU(*a, reset="after", **k),
    "gru-simple": lambda *a, **k: nn.GRU(*a, relevance=False, **k),
    "lstm-peephole": lambda *a, **k: nn.LSTM(*a, peepholes=True, **k),
    "lstm-coupled": lambda *a, **k: nn.LSTM(*a, coupled=True, **k),
    "lstm-layernorm": lambda *a, **k: nn.LSTM(*a, layer_norm=True, **k),
    "lstm-all": lambda *a, **k: nn.LSTM(*a, layer_norm=True, peepholes=True, coupled=True, **k),
}  # fmt: skip


def drawn(shape, seed):
    return mg.tensor(np.random.default_rng(seed).standard_normal(shape), dtype="float32")


# ------------------------------------------------------------------------------------------------ gradients in time


def by_brute_force(layer, x, state, weights):
    """dL/ds_t of L = sum(weights * output), each step as a function of the state before it."""
    cell, p = layer.cell(), layer.cell_parameters("l0")
    states, outputs = [state], []
    for t in range(x.shape[0]):
        state, y = cell(p, x[t], state)
        states.append(state)
        outputs.append(y)
    found = []
    for t in range(x.shape[0]):

        def rest(s, t=t):
            total = (weights[t] * leaves(s)[0]).sum()
            for later in range(t + 1, x.shape[0]):
                s, y = cell(p, x[later], s)
                total = total + (weights[later] * y).sum()
            return total

        _, pull = mg.vjp(rest, states[t + 1])
        found.append([g.numpy() for g in leaves(pull(mg.tensor(1.0))[0])])
    return [np.stack(column) for column in zip(*found)]


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_by_the_states_equal_brute_force(name):
    layer, x = LAYERS[name](3, 4, generator=1), drawn((6, 2, 3), 2)
    weights = drawn((6, 2, 4), 3)
    parts = [drawn((1, 2, 4), 4 + k) for k in range(layer.states)]
    state = tuple(parts) if layer.states == 2 else parts[0]
    (found,) = inspect.state_gradients([layer], x, lambda ys: (weights * ys).sum(), state)
    expected = by_brute_force(layer, x, rebuild(state, [s[0] for s in parts]), weights)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_norms_of_a_model_are_derivatives_by_the_state_it_carries(cell):
    model = make(replace(SMALL, cell=cell, layers=2))
    ids = model.vocabulary.encode(TEXT[:9])[:, None]
    norms = inspect.gradient_norms(model, ids)
    states = ("h", "c") if cell == "lstm" else ("h",)
    assert set(norms) == {f"{s}{k}" for s in states for k in (1, 2)} and model.training
    assert all(n.shape == (8,) and (n >= 0).all() for n in norms.values())
    _, state = model(ids[:5])

    def loss(s):
        h, _ = model.recurrent(model.embedding(ids[5:-1]), s)
        return mg.cross_entropy(model.logits(h[-1]), ids[-1])

    (g,) = mg.vjp(loss, state)[1](mg.tensor(1.0))
    for s, part in zip(states, leaves(g)):  # of the upper layer: the lower one's state feeds the same step too
        assert norms[f"{s}2"][4] == pytest.approx(np.linalg.norm(part.numpy()[1]), rel=1e-3)


def test_a_last_layer_of_another_width():
    model = make(replace(SMALL, layers=2, tied=True))  # D = 6, H = 12
    ids = model.vocabulary.encode(TEXT[:9])
    assert list(inspect.gradient_norms(model, ids[:, None])) == ["h1", "c1", "h2", "c2"]
    h, _ = model.hidden(ids[:, None])
    np.testing.assert_allclose(inspect.gates(model, ids, 1)["h"], h.numpy()[:, 0], rtol=1e-4, atol=1e-6)


def test_a_model_of_one_layer_names_its_states_plainly():
    assert list(inspect.gradient_norms(make(), make().vocabulary.encode(TEXT[:5])[:, None])) == ["h", "c"]


@given(st.floats(0.1, 3.0), st.integers(2, 30))
def test_a_constant_factor_is_found(factor, steps):
    norms = factor ** np.arange(steps, 0, -1.0)
    found = inspect.fading(norms)
    np.testing.assert_allclose([found.median, found.least, found.most], factor, rtol=1e-9)
    left = [k for k in range(steps) if factor**k <= 0.01 * (1 + 1e-9)]
    assert found.steps == (left[0] if left else None)


def test_a_gradient_of_nothing_has_no_factor():
    assert math.isnan(inspect.fading(np.zeros(3)).median)
    assert inspect.fading(np.array([0.0, 0.0, 1.0])).least == 0.0


# ------------------------------------------------------------------------------------------------ clipping

gradients = st.lists(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=5), min_size=1, max_size=3).filter(
    lambda gs: max(abs(x) for g in gs for x in g) > 1e-3
)


@given(gradients)
def test_by_norm_keeps_the_direction_and_by_value_may_turn_it(values):
    norm, value = inspect.clipping_to([mg.tensor(np.array(g, np.float32)) for g in values], 0.5)
    assert norm.cosine == pytest.approx(1.0, abs=1e-5) and norm.after == pytest.approx(norm.before / 2, rel=1e-4)
    assert value.after == pytest.approx(norm.after, rel=1e-4) and 0 < value.cosine <= 1 + 1e-6


def test_clipping_with_bounds_and_without_effect():
    gs = [mg.tensor([3.0, 4.0])]
    norm, value = inspect.clipping(gs, 10.0, 10.0)
    assert (norm.after, value.after, norm.cosine) == (5.0, 5.0, 1.0)
    assert gs[0].numpy().tolist() == [3.0, 4.0]
    _, value = inspect.clipping(gs, 1.0, 3.5)
    assert value.after == pytest.approx(math.hypot(3, 3.5)) and value.cosine < 1


@pytest.mark.parametrize("values", [[0.0, 0.0], [math.inf, 1.0], [math.nan, 1.0]])
def test_a_gradient_without_direction_is_left_as_it_is(values):
    for clipped in inspect.clipping_to([mg.tensor(values)], 0.5):
        np.testing.assert_array_equal([clipped.before, clipped.after], np.linalg.norm(values))
        assert math.isnan(clipped.cosine) and math.isnan(clipped.bound)
    norm, value = inspect.clipping([mg.tensor([math.inf, 1.0])], 1.0, 2.0)
    assert math.isinf(norm.after) and value.after == pytest.approx(math.sqrt(5)) and math.isnan(value.cosine)


def test_looking_at_gradients_leaves_those_of_a_training():
    model = make()
    ids = model.vocabulary.encode(TEXT[:9])[:, None]
    model.loss(ids[:-1], ids[1:])[0].backward()
    before = [p.grad for p in model.parameters()]
    found = inspect.parameter_gradients(model, ids)
    inspect.gradient_norms(model, ids)
    assert all(p.grad is g for p, g in zip(model.parameters(), before)) and model.training
    for g, expected in zip(found, before, strict=True):
        np.testing.assert_allclose(g.numpy(), expected.numpy(), rtol=1e-6)


# ------------------------------------------------------------------------------------------------ gates


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("layers", [1, 2])
def test_the_opened_equations_give_the_output_of_the_layer(name, layers):
    model = make(replace(SMALL, layers=layers))
    model.recurrent = LAYERS[name](6, 12, layers, generator=1)
    start = [drawn((layers, 1, 12), 5 + k) for k in range(model.recurrent.states)]
    model.initial_state = lambda batch: tuple(start) if len(start) == 2 else start[0]
    ids = model.vocabulary.encode("the cat sat")
    found = inspect.gates(model, ids, layers - 1)
    expected, _ = model.recurrent(model.embedding(ids[:, None]), model.initial_state(1))
    np.testing.assert_allclose(found["h"], expected.numpy()[:, 0], rtol=1e-4, atol=1e-6)
    for gate in set(found) & set(inspect.GATES):
        assert ((found[gate] >= 0) & (found[gate] <= 1)).all()
    if name in ("lstm", "lstm-peephole"):
        c = np.concatenate([start[1].numpy()[layers - 1], found["c"][:-1]])
        np.testing.assert_allclose(found["c"], found["f"] * c + found["i"] * found["g"], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found["h"], found["o"] * np.tanh(found["c"]), rtol=1e-4, atol=1e-6)


def test_a_layer_that_is_not_there():
    with pytest.raises(UserError, match="layer.*0 to 0"):
        inspect.gates(make(), np.array([0]), 1)


# ------------------------------------------------------------------------------------------------ neighbours, curves


@given(st.integers(0, 2**32), st.integers(2, 20), st.integers(1, 6))
def test_nearest_is_a_sort_by_cosine(seed, rows, width):
    vectors = np.random.default_rng(seed).standard_normal((rows, width))
    found = inspect.nearest(vectors, 0, 5)
    cosine = [vectors[0] @ v / np.linalg.norm(vectors[0]) / np.linalg.norm(v) for v in vectors]
    assert [c for _, c in found] == pytest.approx(sorted(cosine[1:], reverse=True)[:5])
    assert all(cosine[i] == pytest.approx(c) for i, c in found)


def test_a_row_of_zeros_is_near_nothing():
    assert inspect.nearest(np.array([[0.0, 0.0], [1.0, 2.0]]), 0) == [(1, 0.0)]


def test_metrics_of_any_records(tmp_path):
    path = tmp_path / "a.metrics.jsonl"
    records = [
        {"step": 1, "loss": 3.0, "note": "x"},
        {"step": 2, "loss": None},
        {"step": 3, "loss": 1, "final": True, "n": 10**400},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    run = inspect.read_metrics(path)
    assert run.name == "a" and set(run.columns) == {"step", "loss"}
    assert [a.tolist() for a in run.pairs("step", "loss")] == [[1, 3], [3, 1]]
    assert run.pairs("step", "nothing")[0].size == 0


@pytest.mark.parametrize("content", ["", "no json\n", "[1]\n", '{"loss": 1}\n', '{"step": true}\n', "[" * 100_000])
def test_metrics_that_are_none(tmp_path, content):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"a\.jsonl"):
        inspect.read_metrics(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match="No such file"):
        inspect.read_metrics(tmp_path / "b.jsonl")
