"""The sequence-to-sequence model equals its equations, written out for one sentence and one step at a time."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seq2seq_cases import SMALL, V, batch, wide

import minigrad as mg
from minigrad.errors import UserError
from minigrad.models import CharVocabulary, LanguageConfig, LanguageModel
from minigrad.models.seq2seq.config import ATTENTIONS, DIRECTIONS, Seq2SeqConfig
from minigrad.models.seq2seq.model import Seq2Seq

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


# ---------------------------------------------------------------- its file


@pytest.mark.parametrize("config", VARIANTS, ids=name)
def test_a_file_brings_it_back(config, tmp_path):
    model, path = Seq2Seq(config, V, CharVocabulary.of("abcdefgh\n"), generator=1), tmp_path / "m.safetensors"
    model.save(path)
    again = Seq2Seq.load(path)
    own, found = model.state_dict(), again.state_dict()
    assert own.keys() == found.keys() and all(np.array_equal(own[key], found[key]) for key in own)
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
