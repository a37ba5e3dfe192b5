"""What a model writes: samples follow its probabilities, and beam search finds what an exhaustive search finds."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from decode_cases import log_p, tiny, words
from hypothesis import given
from hypothesis import strategies as st
from lm_cases import SMALL, TEXT, make

from minigrad.errors import UserError
from minigrad.models import CharVocabulary, LanguageModel
from minigrad.models.lm.decode import Sampling, complete, draw, sample, samples, weights
from minigrad.models.lm.score import log_probabilities


def chi_squared_is_likely(counts, expected):
    """Pearson's statistic below the 99.99 % point of its distribution (Wilson and Hilferty 1931)."""
    assert (expected > 5).all()
    statistic, k = (((counts - expected) ** 2) / expected).sum(), len(counts) - 1
    return statistic < k * (1 - 2 / (9 * k) + 3.72 * math.sqrt(2 / (9 * k))) ** 3


# ------------------------------------------------------------------------------------------------ samples


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_100_000_samples_follow_the_probabilities_of_the_model(temperature):
    model, n = tiny(sharp=5.0), 100_000
    texts = samples(model, n, Sampling(length=2, temperature=temperature), prompt="ab", generator=0)
    pairs = ["".join(pair) for pair in itertools.product(model.vocabulary.symbols, repeat=2)]
    found = np.array([texts.count(pair) for pair in pairs])
    expected = np.zeros(16)
    for i, (a, b) in enumerate(itertools.product(range(4), repeat=2)):
        for k in (0, 1):
            prefix = np.array([model.vocabulary.start, *model.vocabulary.encode("ab"), a][: 3 + k])
            logits = model(prefix[:, None])[0].numpy()[-1, 0].astype(np.float64) / temperature
            expected[i] += (logits - np.logaddexp.reduce(logits))[(a, b)[k]]
    assert found.sum() == n and chi_squared_is_likely(found, n * np.exp(expected))
    assert not chi_squared_is_likely(found[::-1], n * np.exp(expected))


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([0.05, 0.3, 0.7, 0.95, 1.0]))
def test_top_k_and_the_nucleus_keep_the_likeliest(seed, k, p):
    logp = np.log(np.random.default_rng(seed).dirichlet(np.full(6, 0.5)) + 1e-12)
    logp -= np.logaddexp.reduce(logp)
    kept = weights(logp, top_k=k)
    assert np.count_nonzero(kept) == k and kept[kept > 0].min() >= weights(logp)[kept == 0].max(initial=0)
    nucleus = weights(logp, top_p=p) > 0
    assert np.exp(logp[nucleus]).sum() >= p - 1e-9
    least = np.flatnonzero(nucleus)[logp[nucleus].argmin()]
    assert np.exp(logp[nucleus]).sum() - np.exp(logp[least]) < p  # one fewer would not be enough
    both = weights(logp, top_k=k, top_p=p)
    np.testing.assert_array_equal((both > 0) & (kept == 0), False)
    ratio = both[both > 0] / np.exp(logp[both > 0])
    np.testing.assert_allclose(ratio, ratio[0])  # what is kept keeps its proportions


def test_extremes_of_the_temperature():
    logp = np.log([[0.2, 0.5, 0.3]])
    np.testing.assert_array_equal(weights(logp, 0.0) > 0, [[False, True, False]])
    np.testing.assert_array_equal(weights(logp, 1e-300) > 0, [[False, True, False]])
    np.testing.assert_allclose(weights(logp, 1e300), 1.0)
    zeros = weights(np.array([[-np.inf, 0.0, -np.inf]]))
    assert (draw(np.repeat(zeros, 1000, 0), np.random.default_rng(0)) == 1).all()


def test_draws_are_by_row():
    p = np.array([[0.1, 0.0, 0.6, 0.3], [1.0, 0.0, 0.0, 0.0]])
    drawn = draw(np.repeat(p, 5000, 0), np.random.default_rng(0))
    counts = np.bincount(drawn[:5000], minlength=4)
    assert counts[1] == 0 and chi_squared_is_likely(counts[[0, 2, 3]], 5000 * p[0, [0, 2, 3]])
    assert (drawn[5000:] == 0).all()


def test_words_are_written_as_a_text():
    model = words(sharp=30.0)
    how = Sampling(length=40, temperature=1.0)
    pieces = list(sample(model, how, "the cat", generator=1))
    assert len(pieces) == 40
    ids = [*model.vocabulary.encode("the cat")]
    ids += [*model.vocabulary.encode("the cat" + "".join(pieces))][2:]
    assert "the cat" + "".join(pieces) == model.vocabulary.decode(ids)
    assert pieces == list(sample(model, how, "the cat", generator=1)) != list(sample(model, how, "the cat", 2))


def test_unknown_words_are_written_only_if_asked_for():
    model = words(sharp=0.0)  # uniform
    for how in ({}, {"top_k": 3}, {"top_p": 0.9}, {"temperature": 0.0}):
        assert "<UNK>" not in "".join(sample(model, Sampling(length=100, **{"temperature": 1.0, **how}), generator=0))
    assert "<UNK>" in "".join(sample(model, Sampling(length=100, temperature=1.0, unknown=True), generator=0))


def test_a_text_stops_at_its_end():
    model = words(sharp=0.0)
    how = Sampling(length=1000, temperature=1.0, stop=True)
    found = [list(sample(model, how, generator=seed)) for seed in range(5)]
    assert all(len(pieces) < 1000 and "\n" not in "".join(pieces) for pieces in found)
    texts = samples(model, 200, how, generator=0)
    assert len(texts) == 200 and not any("\n" in text for text in texts)
    lengths = np.array([len(text.split()) for text in texts])
    assert lengths.mean() == pytest.approx(len(model.vocabulary) - 2, rel=0.25)  # geometric, without <UNK>
    with pytest.raises(UserError, match="stop"):
        sample(LanguageModel(SMALL, CharVocabulary.of("ab"), generator=0), how)


def test_many_side_by_side_are_as_many_alone():
    model = tiny(sharp=10.0)
    greedy = Sampling(length=8, temperature=0.0)
    assert samples(model, 3, greedy, "ab") == ["".join(sample(model, greedy, "ab"))] * 3
    assert samples(model, 2, Sampling(length=0)) == ["", ""]
    assert samples(model, 4, Sampling(), generator=5) == samples(model, 4, Sampling(), generator=5)


def test_a_long_prompt_is_read_in_windows():
    model = make()
    long, how = TEXT * 2, Sampling(length=5, temperature=0.0)
    state, ids = None, np.append(model.vocabulary.start, model.vocabulary.encode(long))
    expected = []
    for _ in range(5):
        logits, state = model(ids[:, None], state)
        ids = logits.numpy()[-1, 0].argmax()[None]
        expected.append(model.vocabulary.decode(ids))
    assert list(sample(model, how, long)) == expected


def test_nonsense_is_refused():
    for bad in ({"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_p": math.nan}, {"length": -1}, {"temperature": -1}):
        with pytest.raises(UserError, match=next(iter(bad))):
            Sampling(**bad)
    for beam in (0, -1, 10**9):
        with pytest.raises(UserError, match="beam"):
            complete(make(), "the", 3, beam)
    with pytest.raises(UserError, match="count"):
        samples(make(), 0, Sampling())


# ------------------------------------------------------------------------------------------------ beam search


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("beam", [1, 2, 5])
def test_completions_are_sorted_and_have_the_models_own_probability(cell, beam):
    for model in (make(replace(SMALL, cell=cell, layers=2)), words(replace(SMALL, cell=cell), sharp=20.0)):
        prompt = "the cat"
        found = complete(model, prompt, 6, beam)
        assert len(found) == beam and len({one.text for one in found}) == beam
        assert [one.log_probability for one in found] == sorted((one.log_probability for one in found), reverse=True)
        before = model.vocabulary.encode(prompt)
        for one in found:
            own = log_p(model, np.append(before, one.ids))[len(before) :].sum()
            assert one.log_probability == pytest.approx(own, abs=1e-4)
            assert prompt + one.text == model.vocabulary.decode(np.append(before, one.ids))


def test_a_beam_of_one_is_greedy():
    for seed in range(5):
        model = tiny(seed=seed)
        greedy = "".join(sample(model, Sampling(length=9, temperature=0.0), "ab"))
        assert [one.text for one in complete(model, "ab", 9, 1)] == [greedy]


@given(st.integers(0, 10**6), st.booleans())
def test_a_beam_as_wide_as_the_space_is_exhaustive(seed, stop):
    model = tiny("ab\n", seed)
    v, length = model.vocabulary, 4
    texts = {text for n in range(1, length + 1) for text in map("".join, itertools.product(v.symbols, repeat=n))}
    whole = {t for t in texts if len(t) == length and "\n" not in t[:-1]} | {
        t for t in texts if t.find("\n") == len(t) - 1
    }
    space = sorted(whole if stop else {text for text in texts if len(text) == length})
    found = complete(model, "ab", length, 3**length, stop=stop)
    assert sorted(one.text for one in found) == space
    before = log_probabilities(model, ["ab"])[0].sum()
    expected = {t: logp.sum() - before for t, logp in zip(space, log_probabilities(model, ["ab" + t for t in space]))}
    for one in found:
        assert one.log_probability == pytest.approx(expected[one.text], abs=1e-4)
    assert found[0].log_probability >= max(expected.values()) - 1e-4
    for beam in (1, 2, 3, 8):  # never better than the best, and each a text of the space
        some = complete(model, "ab", length, beam, stop=stop)
        assert some[0].log_probability <= found[0].log_probability + 1e-4 and {one.text for one in some} <= set(space)


def test_a_completion_has_no_unknown_words_unless_asked_for():
    model = words(sharp=0.0)
    ids = np.concatenate([one.ids for one in complete(model, "the", 3, 50)])
    assert model.vocabulary.unknown not in ids
    ids = np.concatenate([one.ids for one in complete(model, "the", 3, 500, unknown=True)])
    assert model.vocabulary.unknown in ids


def test_the_prefix_is_never_read_again(monkeypatch):
    model, read = make(), []
    hidden = model.hidden
    monkeypatch.setattr(model, "hidden", lambda ids, state: (read.append(ids.size), hidden(ids, state))[1])
    complete(model, "the cat", 6, 4)
    assert read == [8] + [4] * 5
