"""RNN, GRU and LSTM: gradients of every kind, saturation, repeatability, cost, and PyTorch's vectors."""

import json
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
from recurrent_cases import (
    SMALL,
    Sizes,
    assert_close,
    assert_same,
    build,
    every_kind,
    gradients,
    poisoned,  # noqa: F401
    problem,
    way,  # noqa: F401
)

import minigrad as mg
from minigrad.engine import toposort
from minigrad.engine.tree import leaves, rebuild
from minigrad.testing import check_grad

# ---------------------------------------------------------------------------------------------------- gradients


@every_kind
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}], ids=["plain", "deep"])
def test_derivatives_of_order_1_and_2(kind, options):
    s = Sizes(3, 2, 2, 2, [3, 1], 3)
    for lengths in (None, s.lengths):
        layer, x, state = problem(kind, s, **options)
        names, own = zip(*layer.named_parameters())

        def f(x, *rest):
            for name, p in zip(names, rest[layer.states :]):
                setattr(layer, name, p)
            return layer(x, rebuild(state, rest[: layer.states]), lengths)

        scale = 1e-3 if kind == "rnn_relu" else 0.05
        check_grad(f, x.numpy(), *(h.numpy() for h in leaves(state)), *(p.numpy() for p in own), order=2, scale=scale)


def subsets(things):
    return chain.from_iterable(combinations(things, n) for n in range(1, len(things) + 1))


@every_kind
def test_gradients_for_every_subset_of_inputs_that_require_them(kind):
    layer, x, state = problem(kind, SMALL)
    _, expected = gradients(layer, x, state, SMALL.lengths)
    rng = np.random.default_rng(0)
    inputs = [x, *leaves(state), *layer.parameters()]
    gs = [rng.standard_normal(y.shape) for y in leaves(layer(x, state))]
    for chosen in subsets(range(len(inputs))):
        for i, leaf in enumerate(inputs):
            leaf.requires_grad, leaf.grad = i in chosen, None
        out = leaves(layer(x, state, SMALL.lengths))
        sum((y * g).sum() for y, g in zip(out, gs)).backward()
        for i, leaf in enumerate(inputs):
            if i in chosen:
                assert_close([leaf.grad], [expected[i]])
            else:
                assert leaf.grad is None


@every_kind
def test_gradients_for_every_subset_of_results_used(kind):
    """Only the last state, only ys[2], and so on: the same as zero cotangents for what is not used."""
    layer, x, state = problem(kind, SMALL, bidirectional=True)
    like = layer(x, state)
    count = 2 + layer.states  # ys[2], all ys, and the states
    rng = np.random.default_rng(0)
    gs = [rng.standard_normal(r.shape) for r in [like[0][2], *leaves(like)]]
    inputs = [x, *leaves(state), *layer.parameters()]
    for chosen in subsets(range(count)):
        full = [np.zeros(r.shape) for r in leaves(like)]
        for i in chosen:
            if i == 0:
                full[0][2] += gs[0]
            else:
                full[i - 1] += gs[i]
        _, expected = gradients(layer, x, state, SMALL.lengths, rebuild(like, [mg.tensor(g) for g in full]))
        for leaf in inputs:
            leaf.requires_grad, leaf.grad = True, None
        out = leaves(layer(x, state, SMALL.lengths))
        results = [out[0][2], *out]
        sum((results[i] * gs[i]).sum() for i in chosen).backward()
        got = [np.zeros(leaf.shape) if leaf.grad is None else leaf.grad for leaf in inputs]
        assert_close(got, expected)


@every_kind
def test_no_grad_gives_the_same_values_and_records_nothing(kind):
    layer, x, state = problem(kind, SMALL, num_layers=2)
    recorded = leaves(layer(x, state, SMALL.lengths))
    with mg.no_grad():
        out = leaves(layer(x, state, SMALL.lengths))
    assert_same(out, recorded)
    assert all(y.requires_grad for y in recorded) and not any(y.requires_grad for y in out)


@every_kind
def test_walking_a_graph_twice_and_from_a_checkpoint_gives_the_same_gradients(kind):
    layer, x, state = problem(kind, SMALL, bidirectional=True)
    g = mg.tensor(np.random.default_rng(0).standard_normal((SMALL.T, SMALL.B, 2 * SMALL.H)))
    inputs, found = [x, *layer.parameters()], []
    x.requires_grad = True

    def run(x):
        return layer(x, state, SMALL.lengths)[0]

    y = run(x)
    for result in (y, y, mg.checkpoint(run, x)):
        for leaf in inputs:
            leaf.grad = None
        result.backward(g, retain_graph=True)
        found.append([leaf.grad for leaf in inputs])
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


def test_gradients_share_no_memory():
    layer, x, state = problem("lstm", SMALL, num_layers=2)
    inputs = [x, *leaves(state), *layer.parameters()]
    for leaf in inputs:
        leaf.requires_grad = True
    y, last = layer(x, state)
    (y.sum() + sum(h.sum() for h in last)).backward()
    arrays = [leaf.grad.data for leaf in inputs] + [leaf.data for leaf in inputs]
    assert not any(np.shares_memory(a, b) for a, b in combinations(arrays, 2))


@every_kind
def test_saturated_gates_give_finite_values_and_gradients(kind):
    layer, x, state = problem(kind, SMALL, np.float32)
    rng = np.random.default_rng(0)
    for name in [name for name in layer.state_dict() if name.startswith("bias")]:
        p = getattr(layer, name)
        p.data = rng.choice([-1e4, 1e4], p.shape).astype(np.float32)
    out, grads = gradients(layer, x, state)
    assert all(np.isfinite(a.numpy()).all() for a in out + grads)


# ------------------------------------------------------------------------------------ repeatability, cost, errors


LARGE = Sizes(12, 40, 16, 48, list(range(13)) * 3 + [12], 1)  # enough work for several threads


@every_kind
@pytest.mark.parametrize("s", [SMALL, LARGE], ids=["small", "large"])
def test_one_seed_gives_the_same_bits_twice(kind, s):
    def run():
        layer, x, state = problem(kind, s, np.float32, num_layers=2, bidirectional=True, dropout=0.5)
        out, grads = gradients(layer, x, state, s.lengths)
        return [a.numpy().tobytes() for a in out + grads + layer.parameters()]

    assert run() == run()


def test_another_seed_draws_other_parameters():
    assert not np.array_equal(mg.nn.RNN(2, 3, generator=1).bias_l0, mg.nn.RNN(2, 3, generator=2).bias_l0)


def test_parameters_are_drawn_within_the_documented_bound():
    for p in mg.nn.LSTM(3, 16, num_layers=2, generator=0).parameters():
        assert 0.2 < np.abs(p.numpy()).max() <= 0.25


def test_forget_bias_is_added_to_the_rows_of_the_forget_gate_only():
    plain, biased = (mg.nn.LSTM(2, 3, bidirectional=True, forget_bias=b, generator=0) for b in (0.0, 1.0))
    rows = np.repeat([0.0, 1.0, 0.0, 0.0], 3)
    for name, p in plain.named_parameters():
        added = rows if name.startswith("bias") else 0.0
        np.testing.assert_allclose(getattr(biased, name).numpy(), p.numpy() + added, atol=1e-7)


def tape(layer, steps, lengths=None):
    y, _ = layer(mg.tensor(np.ones((steps, 2, 3), np.float32)), lengths=lengths)
    return len(toposort([y.node]))


@every_kind
def test_tape_grows_linearly_with_the_steps_and_not_at_all_when_compiled(kind, way):  # noqa: F811
    layer = build(kind, 3, 4, np.float32)
    for ragged in (False, True):
        sizes = [tape(layer, n, [n, n - 1] if ragged else None) for n in (10, 20, 40)]
        assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])
        assert (sizes[1] > sizes[0]) == (way == "definition")


def test_thousands_of_steps_do_not_exhaust_the_stack():
    layer = mg.nn.RNN(1, 2, generator=0)
    layer(mg.tensor(np.ones((3000, 1, 1), np.float32)))[0].sum().backward()
    assert np.isfinite(layer.weight_hh_l0.grad.numpy()).all()


@every_kind
def test_a_batch_of_no_rows_is_empty(kind):
    layer, x, state = problem(kind, Sizes(2, 0, 3, 4, [], 0))
    out, grads = gradients(layer, x, state, [])
    assert out[0].shape == (2, 0, 4)
    assert not any(g.numpy().any() for g in grads)


# ------------------------------------------------------------------------------------------------------- PyTorch

VECTORS = json.loads((Path(__file__).parent / "data" / "torch_layers.json").read_text())
LIKE_TORCH = {
    "rnn_tanh": lambda **o: mg.nn.RNN(2, 3, **o),
    "rnn_relu": lambda **o: mg.nn.RNN(2, 3, nonlinearity="relu", **o),
    "gru": lambda **o: mg.nn.GRU(2, 3, reset="after", **o),
    "lstm": lambda **o: mg.nn.LSTM(2, 3, **o),
}


def vectors(prefix):
    """Arrays whose names begin so, by the rest of their names."""
    return {n[len(prefix) :]: np.array(v, np.float32) for n, v in VECTORS.items() if n.startswith(prefix)}


def numbered(found, pattern):
    return [found[pattern.format(i)] for i in range(3) if pattern.format(i) in found]


@pytest.mark.parametrize("case", [*LIKE_TORCH, "gru_lengths", "lstm_lengths"])
def test_two_layers_in_both_directions_equal_torch(case):
    kind = case.removesuffix("_lengths")
    given, found = vectors(f"{kind}/"), vectors(f"{case}/")
    lengths = VECTORS["lengths"] if case != kind else None
    layer = LIKE_TORCH[kind](num_layers=2, bidirectional=True)
    layer.load_state_dict(mg.nn.from_torch(vectors(f"{kind}/parameter/"), gru=kind == "gru"))
    state = [mg.tensor(s) for s in numbered(given, "state{}")]
    state = tuple(state) if kind == "lstm" else state[0]
    x = mg.tensor(given["x"])
    gs = rebuild(layer(x, state), [mg.tensor(g) for g in numbered(found, "result{}.g")])
    out, grads = gradients(layer, x, state, lengths, gs)
    assert_close(out, numbered(found, "result{}"), 1e-5)
    assert_close(grads[: 1 + layer.states], [found["x.grad"], *numbered(found, "state{}.grad")], 1e-5)
    expected = vectors(f"{case}/parameter.grad/")
    for name in list(expected):  # our one bias has the gradient of each of torch's two; bias_hn of b_hn alone
        if name.startswith("bias_hh"):
            inside = 6 if kind == "gru" else len(expected[name])
            expected[name][:inside] = 0
    expected = mg.nn.from_torch(expected, gru=kind == "gru")
    assert_close(grads[1 + layer.states :], [expected[name] for name, _ in layer.named_parameters()], 1e-5)
