"""What a sequence-to-sequence model is trained on: smoothing, coins, dropout, means; and that it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from seq2seq_cases import SMALL, V, batch, wide

from minigrad.models import Recipe, Trainer
from minigrad.models.seq2seq import model as module
from minigrad.models.seq2seq.config import ATTENTIONS, Seq2SeqConfig
from minigrad.models.seq2seq.model import Seq2Seq


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
    reads.clear()
    model.loss(*args)
    assert ((np.array(reads) != gold) != changed).any()  # other coins in the next step
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
    seen, lost = [], [0]  # shapes that were dropped from; which of them is lost altogether

    def dropout(x):
        seen.append(x.shape)
        return x * 0.0 if len(seen) == lost[0] else x

    monkeypatch.setattr(model, "dropout", dropout)
    kept = 1 / 0.6  # nothing between the layers is dropped
    mask = lambda p, x, shape, generator: x.beside(np.full(shape, kept, x.dtype))
    monkeypatch.setattr("minigrad.models.seq2seq.model.random_mask", mask)
    whole = model.loss(*args)[0].item()
    assert seen == expected
    for lost[0] in range(1, len(expected) + 1):
        seen.clear()
        assert model.loss(*args)[0].item() != pytest.approx(whole, rel=1e-6)
    lost[0] = 0
    kept = 0.0  # all of it is dropped
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
