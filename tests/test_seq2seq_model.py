"""The sequence-to-sequence model equals its equations, written out for one sentence and one step at a time."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import UserError
from minigrad.models import CharVocabulary, LanguageConfig, LanguageModel, Recipe, Trainer
from minigrad.models.seq2seq import model as module
from minigrad.models.seq2seq.config import ATTENTIONS, DIRECTIONS, Seq2SeqConfig
from minigrad.models.seq2seq.model import Seq2Seq

V = CharVocabulary.of("abcdefg\n")
SMALL = Seq2SeqConfig(hidden=6, embedding=4, dropout=0.0, positions=4)
VARIANTS = [
    *(replace(SMALL, attention=attention, input_feeding=feeding)
      for attention, feeding in product(ATTENTIONS, (True, False))),
    *(replace(SMALL, attention=attention, coverage=0.7) for attention in ATTENTIONS[1:]),
    replace(SMALL, attention="dot", coverage=0.7, input_feeding=False),
    replace(SMALL, layers=2, cell="gru"), replace(SMALL, cell="rnn", direction="forward"),
    replace(SMALL, attention="none", direction="backward", layers=2), replace(SMALL, tied=True),
    replace(SMALL, cell="lstm-layernorm", label_smoothing=0.2),
]  # fmt: skip


def name(config: Seq2SeqConfig) -> str:
    """In what it differs from SMALL."""
    return " ".join(f"{k}={v}" for k, v in config.to_json().items() if v != getattr(SMALL, k)) or "small"


def wide(config: Seq2SeqConfig) -> Seq2Seq:
    """A model in float64, of no small numbers."""
    model = Seq2Seq(config, V, V, generator=3)
    rng = np.random.default_rng(5)
    for p in model.parameters():
        p.data = rng.normal(0, 0.7, p.shape)
    return model


def batch(sizes: list[tuple[int, int]], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source (S, B), lengths (B,) and target (T, B) for sizes (S, T) of each."""
    rng, n = np.random.default_rng(seed), len(sizes)
    S, T = (max(size) for size in zip(*sizes))
    source, target = np.zeros((S, n), int), np.full((T, n), -100)
    for b, (s, t) in enumerate(sizes):
        source[:s, b] = rng.integers(1, len(V), s)
        target[:t, b] = [*rng.integers(1, len(V), t - 1), V.end]
    return source, np.array([s for s, _ in sizes]), target


# ---------------------------------------------------------------- the equations, in NumPy


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell(kind, p, x, state):
    """A step of one row: x (I,), h (H,), c (H,)."""
    h, c = state
    if kind == "rnn":
        return np.tanh(p["ih"] @ x + p["hh"] @ h + p["b"]), c
    if kind == "gru":
        H = len(h)
        a = p["ih"] @ x + p["b"]
        r, u = sigmoid(a[:H] + p["hh"][:H] @ h), sigmoid(a[H : 2 * H] + p["hh"][H : 2 * H] @ h)
        return u * np.tanh(a[2 * H :] + p["hh"][2 * H :] @ (r * h)) + (1 - u) * h, c
    i, f, g, o = np.split(p["ih"] @ x + p["hh"] @ h + p["b"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def by_hand(model: Seq2Seq, x: list[int], y: list[int]) -> tuple[np.ndarray, float]:
    """-log p of each symbol of y, and the sum over steps of sum_s min(a_s, k_s)."""
    w, config = model.state_dict(), model.config
    kind, H, both = config.cell, config.hidden, config.direction == "both"
    width = H // 2 if both else H

    def weights(part, suffix):
        return {"ih": w[f"{part}.weight_ih_{suffix}"], "hh": w[f"{part}.weight_hh_{suffix}"],
                "b": w[f"{part}.bias_{suffix}"]}  # fmt: skip

    x = x[::-1] if config.direction == "backward" else x
    m = [w["source_embedding.weight"][i] for i in x]
    states = []
    for k in range(config.layers):
        found = []
        for suffix in [f"l{k}", f"l{k}_reverse"] if both else [f"l{k}"]:
            state, outputs = (np.zeros(width), np.zeros(width)), []
            for x_t in m[::-1] if suffix.endswith("reverse") else m:
                state = cell(kind, weights("encoder", suffix), x_t, state)
                outputs.append(state[0])
            found.append((outputs[::-1] if suffix.endswith("reverse") else outputs, state))
        m = [np.concatenate(parts) for parts in zip(*(outputs for outputs, _ in found))]
        last = [np.concatenate([state[i] for _, state in found]) for i in range(model.decoder.states)]
        n = model.decoder.states * k
        bridged = [w[f"bridge.{n + i}.weight"] @ s + w[f"bridge.{n + i}.bias"] for i, s in enumerate(last)]
        states.append((np.tanh(bridged[0]), bridged[1] if len(bridged) > 1 else None))
    m = np.array(m).reshape(len(x), H)
    a = {name: w.get(f"attention.{name}") for name in "CWLQvu"}
    fed, covered, again, nll = np.zeros(config.readout), np.zeros(len(x)), 0.0, []
    output = w["embedding.weight"] if config.tied else w["output.weight"]
    for before, symbol in zip([V.start, *y[:-1]], y):
        x_t = w["embedding.weight"][before]
        if config.fed:
            x_t = np.concatenate([x_t, fed])
        for k in range(config.layers):
            states[k] = cell(kind, weights("decoder", f"l{k}"), x_t, states[k])
            x_t = states[k][0]
        r = x_t
        if config.attention != "none":
            e = np.zeros(len(x))
            for s in range(len(x)):
                seen = covered[s] * a["u"] if config.coverage else 0.0
                if config.attention == "dot":
                    e[s] = x_t @ m[s] + seen
                elif config.attention == "general":
                    e[s] = x_t @ (a["W"] @ m[s]) + seen
                elif config.attention == "additive":
                    e[s] = a["v"] @ np.tanh(a["W"] @ m[s] + a["Q"] @ x_t + seen)
                else:
                    e[s] = a["L"][s] @ x_t + seen if s < config.positions else -np.inf
            weight = np.exp(e - e.max()) / np.exp(e - e.max()).sum()
            again += np.minimum(weight, covered).sum()
            covered = covered + weight
            r = fed = np.tanh(a["C"] @ np.concatenate([x_t, weight @ m]))
        z = output @ r + w["output.bias"]
        nll.append(np.log(np.exp(z - z.max()).sum()) + z.max() - z[symbol])
    return np.array(nll), again


@pytest.mark.parametrize("config", [c for c in VARIANTS if "layernorm" not in c.cell], ids=name)
def test_it_is_its_equations(config):
    model = wide(config)
    source, lengths, target = batch([(5, 3), (1, 4), (3, 1), (6, 4)])
    found = model.nll(source, lengths, target)
    count, total, repeated = int((target >= 0).sum()), 0.0, 0.0
    for b, n in enumerate(lengths):
        y = target[target[:, b] >= 0, b]
        expected, again = by_hand(model, list(source[:n, b]), list(y))
        np.testing.assert_allclose(found[: len(y), b], expected, rtol=1e-9, atol=1e-10)
        assert not found[len(y) :, b].any()
        total, repeated = total + expected.sum(), repeated + again
    loss = model.loss(source, lengths, target)[0].item()
    np.testing.assert_allclose(loss, (total + config.coverage * repeated) / count, rtol=1e-9)


@pytest.mark.parametrize("config", VARIANTS, ids=name)
def test_a_step_at_a_time_equals_teacher_forcing(config):
    model = wide(config)
    source, lengths, target = batch([(5, 3), (1, 4), (6, 2)])
    expected = model.nll(source, lengths, target)
    with model.inference():
        state = model.start(source, lengths)
    ids = np.full(len(lengths), V.start)
    for t, y in enumerate(target):
        logp, state, weights = model.step(ids, state)
        there = y >= 0
        np.testing.assert_allclose(-logp[there, y[there]], expected[t, there], rtol=1e-9)
        np.testing.assert_allclose(np.exp(logp).sum(1), 1)
        assert (weights is None) == (config.attention == "none")
        if weights is not None:
            np.testing.assert_allclose(weights.sum(1), 1)
            behind = np.arange(len(source)) >= lengths[:, None]
            assert not weights[behind].any()
        ids = np.where(there, y, V.end)


@pytest.mark.parametrize("config", VARIANTS, ids=name)
def test_gradients(config):
    model = wide(config)
    names, parameters = zip(*model.named_parameters())
    for p in (model.source_embedding, model.embedding):
        p.sparse = False
    args = batch([(4, 3), (2, 2)])
    own = [p.numpy().copy() for p in parameters]

    def loss(*values):
        for p, value in zip(_places(model, names), values):
            p(value)
        return model.loss(*args)[0]

    mg.testing.check_grad(loss, *own, order=1)


def _places(model, names):
    """Functions that put a tensor in the place of each parameter."""
    for name in names:
        *path, last = name.split(".")
        owner = model
        for part in path:
            owner = owner[int(part)] if part.isdigit() else getattr(owner, part)

        def put(value, owner=owner, last=last, name=name):
            if isinstance(owner, dict):
                owner[last] = value
            else:
                setattr(owner, last, value)
            if name == "embedding.weight" and model.config.tied:
                model.output.weight = value

        yield put


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=5), st.sampled_from(VARIANTS),
       st.integers(0, 3), st.integers(0, 3), st.randoms())  # fmt: skip
def test_padding_and_company_change_nothing(sizes, config, more_s, more_t, random):
    model = wide(config)
    source, lengths, target = batch(sizes)
    expected = model.nll(source, lengths, target)
    order = list(range(len(sizes)))
    random.shuffle(order)
    longer = np.pad(source, ((0, more_s), (0, 0)))
    behind = np.arange(len(longer))[:, None] >= lengths
    longer = np.where(behind, random.randrange(len(V)), longer)
    padded = np.pad(target, ((0, more_t), (0, 0)), constant_values=-100)
    found = model.nll(longer[:, order], lengths[order], padded[:, order])
    np.testing.assert_allclose(found[: len(target)], expected[:, order], rtol=1e-8, atol=1e-12)
    alone = [model.nll(source[:n, b : b + 1], [n], target[:, b : b + 1]) for b, n in enumerate(lengths)]
    np.testing.assert_allclose(np.concatenate(alone, 1), expected, rtol=1e-8, atol=1e-12)


# ---------------------------------------------------------------- training


def test_label_smoothing_gives_all_symbols_a_share():
    model = wide(replace(SMALL, label_smoothing=0.3))
    source, lengths, target = batch([(3, 4)])
    with model.inference():
        state = model.start(source, lengths)
    ids, total = np.full(1, V.start), 0.0
    for y in target:
        logp, state, _ = model.step(ids, state)
        total -= 0.7 * logp[0, y[0]] + 0.3 * logp[0].mean()
        ids = y
    np.testing.assert_allclose(model.loss(source, lengths, target)[0].item(), total / 4)
    model = wide(replace(SMALL, label_smoothing=0.3, coverage=0.5))
    np.testing.assert_allclose(model.eval().loss(source, lengths, target)[0].item(),
                               model.nll(source, lengths, target).mean())  # fmt: skip


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_scheduled_sampling_throws_a_coin_for_each_symbol(attention, monkeypatch):
    config = replace(SMALL, attention=attention, scheduled_sampling=0.4)
    model, args = wide(config), batch([(4, 40)] * 30)
    target, drawn = args[2], []

    def seven(weights, rng):
        assert rng is model.generator
        drawn.append(weights)
        return np.full(len(weights), 7)

    monkeypatch.setattr(module, "draw", seven)
    reads = []
    inputs = model._inputs
    monkeypatch.setattr(model, "_inputs", lambda ids: (reads.append(ids[0]), inputs(ids))[1])
    model.loss(*args)
    gold = model._read(target)
    changed = np.array(reads) != gold
    assert (np.array(reads)[changed] == 7).all() and not changed[0].any()
    share = changed.sum() / (gold[1:] != 7).sum()
    assert 0.35 < share < 0.45
    rows = changed.mean(0)
    assert rows.min() > 0 and rows.max() < 0.8  # of each sentence some, of none all
    with model.inference():
        logp, _, _ = model.step(gold[0], model.start(*args[:2]))
    np.testing.assert_allclose(drawn[0], np.exp(logp), rtol=1e-9)  # as the model itself draws


def test_without_a_coin_it_is_teacher_forcing():
    args = batch([(4, 5), (2, 3)])
    for attention in ATTENTIONS:
        config = replace(SMALL, attention=attention, coverage=0.7 * (attention != "none"))  # of counted symbols alone
        plain, rare = wide(config), wide(replace(config, scheduled_sampling=1e-12))
        np.testing.assert_allclose(rare.loss(*args)[0].item(), plain.loss(*args)[0].item(), rtol=1e-12)


@pytest.mark.parametrize("coin", (0.0, 1e-12))
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_where_dropout_acts(attention, coin, monkeypatch):
    """On embeddings of both sides, what the encoder says, and readouts; and between the layers of the decoder."""
    config = replace(SMALL, attention=attention, layers=2, dropout=0.4, scheduled_sampling=coin)
    model, args = wide(config), batch([(3, 4), (3, 4)])
    model.encoder.dropout.p = 0.0
    D, H, T = 4, 6, 4
    expected = [(3, 2, D), *[(3, 2, H)] * (attention != "none"), *([(1, 2, D)] * T if coin else [(T, 2, D)]), (T, 2, H)]
    seen, lost = [], None

    def dropout(x):
        seen.append(x.shape)
        return x * 0.0 if len(seen) == lost else x

    monkeypatch.setattr(model, "dropout", dropout)
    masks = lambda shape, dtype: np.ones(shape, dtype)  # nothing between the layers is dropped, all of it is 1 / 0.6
    monkeypatch.setattr(model, "generator", SimpleNamespace(random=lambda shape, dtype=float: masks(shape, dtype)))
    whole = model.loss(*args)[0].item()
    assert seen == expected
    for lost in range(1, len(expected) + 1):
        seen.clear()
        assert model.loss(*args)[0].item() != pytest.approx(whole, rel=1e-6)
    lost = None
    masks = lambda shape, dtype: np.zeros(shape, dtype)  # all of it is dropped
    between = model.decoder.weight_ih_l1
    gone = model.loss(*args)[0].item()
    between.data = between.numpy() * 0
    assert gone == pytest.approx(model.loss(*args)[0].item()) != pytest.approx(whole, rel=1e-6)


def test_masks_between_layers():
    """0 or 1 / (1 - p), another for each step, row and unit, from the model's generator."""
    model = wide(replace(SMALL, layers=3, dropout=0.2))
    ids = np.zeros((50, 20), int)
    _, masks = model._inputs(ids)
    values = np.array([mask.numpy() for mask in masks])
    assert values.shape == (2, 50, 20, 6)
    np.testing.assert_allclose(np.unique(values), [0, 1 / 0.8], rtol=1e-6)
    assert abs((values == 0).mean() - 0.2) < 0.02
    assert all(values.std(axis).max() > 0 for axis in range(4))
    again = wide(replace(SMALL, layers=3, dropout=0.2))._inputs(ids)[1]
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(masks, again))
    assert model.eval()._inputs(ids)[1] == ()


def test_a_mean_over_batches_is_one_over_symbols():
    model, sizes = wide(SMALL), [[(3, 5), (2, 1)], [(4, 2)]]

    class Two:
        per_epoch = 2

        def __call__(self, step):
            return batch(sizes[step], step), np.ones(len(sizes[step]), bool)

    nll = [model.nll(*Two()(step)[0]).sum() for step in range(2)]
    assert model.evaluate(Two()) == pytest.approx(sum(nll) / 8)


@pytest.mark.parametrize("attention", ("general", "location"))
def test_padding_changes_nothing_at_scores_of_minus_tens_of_thousands(attention):
    model = wide(replace(SMALL, attention=attention, positions=9, cell="rnn-relu"))
    w = model.attention["W" if attention == "general" else "L"]
    w.data = -1e5 * np.abs(w.numpy())  # times states, which are not negative
    source, lengths, target = batch([(5, 3), (1, 4), (2, 2)])
    alone = [model.nll(source[:n, b : b + 1], [n], target[:, b : b + 1]) for b, n in enumerate(lengths)]
    np.testing.assert_allclose(model.nll(source, lengths, target), np.concatenate(alone, 1), rtol=1e-9)
    assert np.isfinite(alone).all()
    with model.inference():
        _, ((h,), *_, memory), a = model.step(model._read(target)[0], model.start(source, lengths))
    e = (memory.keys.numpy() @ h.numpy()[..., None])[..., 0] if attention == "general" else h.numpy() @ w.numpy()[:5].T
    there = np.arange(5) < lengths[:, None]
    assert min(e[b, there[b]].max() for b in range(3)) < -1e4 and not a[~there].any()


class Reversing:
    """Strings, and the same from behind."""

    per_epoch = 50

    def __call__(self, step):
        rng = np.random.default_rng(step)
        lengths = rng.integers(1, 5, 16)
        source, target = np.zeros((4, 16), int), np.full((5, 16), -100)
        for b, n in enumerate(lengths):
            source[:n, b] = rng.integers(1, len(V), n)
            target[: n + 1, b] = [*source[:n, b][::-1], V.end]
        return (source, lengths, target), np.ones(16, bool)


@pytest.mark.parametrize("attention", ("none", "general"))
def test_it_learns(attention):
    config = Seq2SeqConfig(hidden=32, embedding=16, attention=attention, dropout=0.05)
    model = Seq2Seq(config, V, V, generator=0)
    trainer = Trainer(model, Reversing(), None, Recipe(batch=16, steps=250, lr=2e-2))
    losses = [step.loss for step in trainer]
    assert np.mean(losses[:5]) > 1.9 and np.mean(losses[-20:]) < 0.5
    again = Trainer(Seq2Seq(config, V, V, generator=0), Reversing(), None, Recipe(batch=16, steps=250, lr=2e-2))
    assert [step.loss for _, step in zip(range(5), again)] == losses[:5]


# ---------------------------------------------------------------- its file


@pytest.mark.parametrize("config", VARIANTS, ids=name)
def test_a_file_brings_it_back(config, tmp_path):
    model, args = Seq2Seq(config, V, CharVocabulary.of("abcdefgh\n"), generator=1), batch([(3, 4), (2, 2)])
    model.save(tmp_path / "m.safetensors")
    again = Seq2Seq.load(tmp_path / "m.safetensors")
    assert np.array_equal(model.nll(*args), again.nll(*args))
    assert again.config == config and again.target.symbols == model.target.symbols


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "m.safetensors"
    LanguageModel(LanguageConfig(hidden=4, embedding=4), V, generator=0).save(path)
    with pytest.raises(UserError, match="a model of class 'LanguageModel', expected a Seq2Seq"):
        Seq2Seq.load(path)
    Seq2Seq(SMALL, V, V, generator=0).save(path)
    with pytest.raises(UserError, match="a model of class 'Seq2Seq', expected a LanguageModel"):
        LanguageModel.load(path)


def test_a_damaged_configuration_is_refused_before_memory_is_made(tmp_path):
    path = tmp_path / "m.safetensors"
    model = Seq2Seq(SMALL, V, V, generator=0)
    for name, value in (("hidden", 10**6), ("embedding", 10**6), ("layers", 999), ("cell", "gru")):
        model.config = replace(SMALL, **{name: value})
        model.save(path)
        with pytest.raises(UserError, match="damaged"):
            Seq2Seq.load(path)


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_what_does_not_go_together(directions):
    wrong = [{"hidden": 5}, {"direction": "backward"}, {"coverage": 1.0, "attention": "none"},
             {"tied": True, "attention": "none"}, {"attention": "many"}, {"dropout": 1.0}]  # fmt: skip
    for options in wrong:
        with pytest.raises(UserError, match="expected"):
            Seq2SeqConfig(**{"hidden": 6, "embedding": 4, **options})
