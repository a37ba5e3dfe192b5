"""Modules (parameters by name, their state) and the layers without time: Linear, Embedding, Dropout, LayerNorm."""

import json
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.testing import check_grad

VECTORS = json.loads((Path(__file__).parent / "data" / "torch_layers.json").read_text())


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


class Tree(nn.Module):
    """Parameters in every kind of place."""

    def __init__(self, seed=0):
        self.own = nn.Parameter(draw(seed, 2).astype(np.float32))
        self.constant = mg.tensor(draw(seed, 2))
        self.layer = nn.Linear(2, 3, generator=seed)
        self.listed = [nn.Linear(1, 1, generator=seed), (nn.Parameter([0.5 + seed]), "text")]
        self.named = {"a": nn.Dropout(0.5), "b": [nn.Linear(1, 2, bias=False, generator=seed)]}
        self.tied = self.layer.weight


NAMES = ["own", "tied", "listed.1.0", "layer.bias", "listed.0.weight", "listed.0.bias", "named.b.0.weight"]

# --------------------------------------------------------------------------------------------------------- modules


def test_named_parameters_finds_those_in_attributes_lists_tuples_and_dicts_and_tied_ones_once():
    tree = Tree()
    found = dict(tree.named_parameters())
    assert sorted(found) == sorted(NAMES)
    assert found["tied"] is tree.layer.weight
    assert found["named.b.0.weight"] is tree.named["b"][0].weight
    assert [id(p) for p in tree.parameters()] == [id(p) for p in found.values()]


def test_results_computed_from_parameters_are_no_parameters():
    tree = Tree()
    tree.double = tree.own * 2.0
    assert sorted(name for name, _ in tree.named_parameters()) == sorted(NAMES)


def test_a_tied_parameter_collects_the_gradients_of_all_its_uses():
    class Tied(nn.Module):
        def __init__(self):
            self.embedding = nn.Embedding(5, 3, generator=0)
            self.head = nn.Linear(3, 5, generator=0)
            self.head.weight = self.embedding.weight

    tied = Tied()
    assert len(tied.parameters()) == 2
    e = tied.embedding([1, 2])
    tied.head(e).sum().backward()
    w = tied.embedding.weight.numpy()
    expected = np.tile(w[1] + w[2], (5, 1))  # as the head's weight: d/dW (E W^T) = 1^T E for every row
    expected[[1, 2]] += w.sum(0)  # as the table: every row of the head
    np.testing.assert_allclose(tied.embedding.weight.grad.numpy(), expected, rtol=1e-5)


def test_state_dict_goes_round_and_holds_copies():
    one, other = Tree(0), Tree(1)
    state = one.state_dict()
    assert sorted(state) == sorted(NAMES)
    other.load_state_dict(state)
    for name, p in other.named_parameters():
        np.testing.assert_array_equal(p, state[name])
        assert not np.shares_memory(p.numpy(), state[name])
    for array in state.values():
        array += 1
    for p, q in zip(one.parameters(), other.parameters()):
        np.testing.assert_array_equal(p, q)


def test_loading_replaces_data_and_leaves_arrays_taken_before_as_they_were():
    layer = nn.Linear(2, 2, bias=False, generator=0)
    taken, copy = layer.weight.numpy(), layer.weight.numpy().copy()
    layer.load_state_dict({"weight": np.zeros((2, 2))})
    np.testing.assert_array_equal(taken, copy)
    assert not layer.weight.numpy().any()


def without(state, name):
    return {n: v for n, v in state.items() if n != name}


BAD_STATES = {
    "missing": (lambda s: without(s, "own"), mg.errors.MinigradError, "no parameter own"),
    "unknown": (lambda s: {**s, "more": s["own"]}, mg.errors.MinigradError, "got parameter more, expected one of"),
    "shape": (lambda s: {**s, "own": np.zeros(3)}, mg.errors.ShapeError, r"own of shape \(3,\), expected \(2,\)"),
    "broadcastable": (lambda s: {**s, "own": np.zeros(1)}, mg.errors.ShapeError, r"own of shape \(1,\)"),
    "text": (lambda s: {**s, "named.b.0.weight": np.array([["a"], ["b"]])}, ValueError, "could not convert"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_a_state_that_does_not_fit_is_an_error_and_changes_nothing(case):
    change, error, match = BAD_STATES[case]
    tree = Tree(0)
    before = tree.state_dict()
    with pytest.raises(error, match=match):
        tree.load_state_dict(change(Tree(1).state_dict()))
    for name, p in tree.named_parameters():
        np.testing.assert_array_equal(p, before[name])


def test_loading_keeps_the_dtype_of_the_parameters():
    layer = nn.Linear(2, 1, generator=0)
    layer.load_state_dict({"weight": np.ones((1, 2), np.float64), "bias": [1]})
    assert {p.dtype for p in layer.parameters()} == {np.dtype(np.float32)}


def test_train_and_eval_reach_every_module():
    tree = Tree()
    assert tree.eval() is tree
    assert not any(module.training for _, module in tree.named_modules())
    tree.train()
    assert tree.named["a"].training and tree.named["b"][0].training and tree.training


def test_zero_grad_removes_every_gradient():
    tree = Tree()
    sum(p.sum() for p in tree.parameters()).backward()
    assert all(p.grad is not None for p in tree.parameters())
    tree.zero_grad()
    assert all(p.grad is None for p in tree.parameters())


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Tree has no forward"):
        Tree()(1)


def test_repr_counts_parameters():
    assert repr(nn.Linear(3, 2)) == "Linear(8 parameters)"


# ---------------------------------------------------------------------------------------------- Linear, Embedding


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 3), (0, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_its_equation(shape, bias):
    layer = nn.Linear(3, 4, bias, generator=0)
    x = draw(0, *shape).astype(np.float32)
    y = layer(mg.tensor(x))
    expected = x @ layer.weight.numpy().T + (layer.bias.numpy() if bias else 0)
    assert y.shape == (*shape[:-1], 4)
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-6)


def test_linear_has_right_derivatives():
    layer = nn.Linear(3, 4, generator=0)

    def f(x, w, b):
        layer.weight, layer.bias = w, b
        return layer(x)

    check_grad(f, draw(0, 2, 5, 3), draw(1, 4, 3), draw(2, 4))


def test_layers_are_drawn_within_their_documented_bound_and_by_the_seed():
    layer = nn.Linear(16, 50, generator=0)
    for p in layer.parameters():
        assert 0.2 < np.abs(p.numpy()).max() <= 0.25
    np.testing.assert_array_equal(nn.Linear(16, 50, generator=0).weight, layer.weight)
    assert not np.array_equal(nn.Linear(16, 50, generator=1).weight, layer.weight)
    table = nn.Embedding(1000, 8, scale=0.1, generator=0).weight.numpy()
    assert table.dtype == np.float32
    assert abs(table.std() - 0.1) < 0.01


def test_one_generator_passed_through_draws_different_layers():
    rng = np.random.default_rng(0)
    assert not np.array_equal(nn.Linear(3, 3, generator=rng).weight, nn.Linear(3, 3, generator=rng).weight)


@pytest.mark.parametrize("indices", [2, [1, 1, 4], np.array([[0, 4], [3, 0]], np.uint8), mg.tensor([[2]]), []])
def test_embedding_reads_rows_and_adds_up_gradients_of_repeated_ones(indices):
    layer = nn.Embedding(5, 3, generator=0)
    rows = np.asarray(indices, int)
    e = layer(indices)
    np.testing.assert_array_equal(e, layer.weight.numpy()[rows])
    g = draw(0, *e.shape).astype(np.float32)
    (e * g).sum().backward()
    expected = np.zeros((5, 3))
    np.add.at(expected, rows, g)
    np.testing.assert_allclose(layer.weight.grad.numpy(), expected, atol=1e-6)


# ---------------------------------------------------------------------------------------------- Dropout, LayerNorm


def test_dropout_keeps_elements_with_probability_1_minus_p_and_scales_them():
    x = mg.tensor(np.full((200, 200), 3.0, np.float32))
    y = nn.Dropout(0.25, generator=0)(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(4)}
    assert abs((y == 0).mean() - 0.25) < 0.01


def test_dropout_is_off_in_evaluation_and_at_p_0():
    x = mg.tensor(draw(0, 4, 4))
    assert nn.Dropout(0.0)(x) is x
    assert nn.Dropout(0.5).eval()(x) is x


def test_dropout_repeats_with_its_seed_and_not_from_call_to_call():
    x = mg.tensor(np.ones((8, 8)))
    one, other = nn.Dropout(0.5, generator=3), nn.Dropout(0.5, generator=3)
    first = one(x).numpy()
    np.testing.assert_array_equal(other(x), first)
    assert not np.array_equal(one(x), first)


def test_dropout_passes_gradients_where_it_passes_values():
    x = mg.tensor(np.full((6, 6), 2.0), requires_grad=True)
    y = nn.Dropout(0.5, generator=0)(x)
    y.sum().backward()
    assert y.dtype == np.float64
    np.testing.assert_array_equal(x.grad, y.numpy() / 2)


def test_layer_norm_equals_torch():
    v = {n.removeprefix("layer_norm/"): np.array(a, np.float32) for n, a in VECTORS.items() if "layer_norm/" in n}
    layer = nn.LayerNorm(6)
    layer.load_state_dict({"weight": v["weight"], "bias": v["bias"]})
    x = mg.tensor(v["x"], requires_grad=True)
    y = layer(x)
    y.backward(mg.tensor(v["g"]))
    for got, name in ((y, "y"), (x.grad, "x.grad"), (layer.weight.grad, "weight.grad"), (layer.bias.grad, "bias.grad")):
        np.testing.assert_allclose(got.numpy(), v[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (1, 1)])
def test_layer_norm_has_right_derivatives(shape):
    layer = nn.LayerNorm(shape[-1])

    def f(x, w, b):
        layer.weight, layer.bias = w, b
        return layer(x)

    check_grad(f, draw(0, *shape), draw(1, shape[-1]), draw(2, shape[-1]))


@pytest.mark.parametrize("eps", [1e-5, 1.0])
def test_layer_norm_adds_eps_to_the_variance(eps):
    y = nn.LayerNorm(2, eps)(mg.tensor([[1e-3, -1e-3]]))
    np.testing.assert_allclose(y.numpy()[0], np.array([1e-3, -1e-3]) / np.sqrt(1e-6 + eps), rtol=1e-5)


def test_layer_norm_of_equal_elements_is_its_bias_with_finite_gradients():
    layer = nn.LayerNorm(3)
    x = mg.tensor(np.full((2, 3), 7.0, np.float32), requires_grad=True)
    y = layer(x)
    (y * np.arange(6, dtype=np.float32).reshape(2, 3)).sum().backward()
    np.testing.assert_array_equal(y, np.zeros((2, 3)))
    assert np.isfinite(x.grad.numpy()).all()


# --------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: nn.Linear(3, 2)(mg.tensor([[1.0] * 4])), mg.errors.ShapeError, r"\[Linear\] got x \(1, 4\), .* I = 3"),
        (lambda: nn.Linear(3, 2)(mg.tensor(1.0)), mg.errors.ShapeError, r"\[Linear\] got x \(\)"),
        (lambda: nn.LayerNorm(3)(mg.tensor(np.ones((3, 1)))), mg.errors.ShapeError, r"\[LayerNorm\] got x \(3, 1\)"),
        (lambda: nn.Embedding(3, 2)([0, 3]), mg.errors.IndexingError, "indices from 0 to 3, expected 0 <= index < 3"),
        (lambda: nn.Embedding(3, 2)([-1]), mg.errors.IndexingError, "indices from -1 to -1"),
        (lambda: nn.Embedding(3, 2)([0.5]), mg.errors.DtypeError, "indices of dtype float64, expected integers"),
        (lambda: nn.Dropout(1.0), ValueError, r"\[Dropout\] got p=1.0, expected 0 <= p < 1"),
        (lambda: nn.Dropout(-0.1), ValueError, r"\[Dropout\] got p=-0.1"),
        (lambda: nn.Dropout(float("nan")), ValueError, r"\[Dropout\] got p=nan"),
    ],
)
def test_wrong_use_is_a_named_error(call, error, match):
    with pytest.raises(error, match=match):
        call()
