"""Dynamic evaluation and the neural cache: nothing learned equals the plain evaluation, and each is its definition."""

import math
from dataclasses import replace

import numpy as np
import pytest
from decode_cases import words
from hypothesis import given
from hypothesis import strategies as st
from lm_cases import SMALL, TEXT, make

from minigrad.errors import UserError
from minigrad.models.lm.adapt import cached, dynamic, gradient_rms
from minigrad.models.lm.score import stream


def joined(parts):
    return np.concatenate(list(parts))


def ids_of(model, n=120, seed=0):
    return np.random.default_rng(seed).integers(len(model.vocabulary), size=n)


MODELS = {
    "lstm": make(replace(SMALL, layers=2, dropout=0.3)),
    "gru": make(replace(SMALL, cell="gru", output_dropout=0.3)),
    "tied words": words(replace(SMALL, tied=True, embedding=12)),
    "sampled": words(replace(SMALL, softmax="sampled", samples=3)),
    "adaptive": words(replace(SMALL, softmax="adaptive")),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_rate_or_a_weight_of_zero_changes_nothing(name):
    model = MODELS[name]
    ids = ids_of(model)
    np.testing.assert_array_equal(joined(dynamic(model, ids, 0.0, window=7)), joined(stream(model, ids, 7)))
    np.testing.assert_array_equal(joined(cached(model, ids, 9, weight=0.0, window=7)), joined(stream(model, ids, 7)))


@pytest.mark.parametrize("name", MODELS)
def test_the_model_stays_as_it_was_and_learns_the_text(name):
    model = MODELS[name]
    before, mode, rng = model.state_dict(), model.training, model.generator.bit_generator.state
    ids = np.tile(ids_of(model, 8), 40)
    for rms in (None, gradient_rms(model, ids, window=5)):
        rate = 0.5 if rms is None else 0.01
        found = joined(dynamic(model, ids, rate, window=5, rms=rms))
        assert found[-80:].mean() < found[:80].mean() - 0.3
    joined(cached(model, ids, 20))
    next(iter(dynamic(model, ids, 0.5)))  # left half-way
    for key, p in model.state_dict().items():
        np.testing.assert_array_equal(p, before[key])
    assert model.training == mode and model.generator.bit_generator.state == rng


def test_one_step_by_hand():
    """With float32 weights w - rate g, the decay pulling back from the second step on."""
    model, twin = make(), make()
    ids, rate, decay = ids_of(model, 11), 0.7, 0.25
    found = joined(dynamic(model, ids, rate, decay=decay, window=5))
    trained, state, expected = twin.state_dict(), twin.initial_state(1), []
    for part in (ids[:6], ids[5:]):
        nll, after = twin.nll(part[:-1, None], part[1:, None], state)
        expected.append(nll[:, 0])
        twin.zero_grad()
        twin.loss(part[:-1, None], part[1:, None], state)[0].backward()
        for name, p in twin.named_parameters():
            p.data = p.data - np.float32(rate) * p.grad.numpy() + np.float32(decay) * (trained[name] - p.data)
        state = after
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5)


def test_scaled_steps_have_the_size_of_the_rate():
    """g / rms over the very windows whose rms it is: 1 on average of squares."""
    model = make()
    ids = ids_of(model, 41)
    rms = gradient_rms(model, ids, window=40)
    assert rms.keys() == model.state_dict().keys()
    model.eval()
    model.loss(ids[:-1, None], ids[1:, None])[0].backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(rms[name], np.abs(p.grad.numpy()), rtol=1e-4, atol=1e-7)
    model.zero_grad()
    model.train()


@given(
    st.integers(0, 10**6), st.sampled_from([1, 3, 50]), st.sampled_from([0.0, 0.3, 20.0]), st.sampled_from([0.1, 1.0])
)
def test_the_cache_is_its_definition_and_sums_to_one(seed, size, theta, weight):
    model = MODELS["lstm"]
    V = len(model.vocabulary)
    ids = ids_of(model, 10, seed)
    model.eval()
    h = model.hidden(ids[:-1, None])[0].numpy()[:, 0].astype(np.float64)
    model.train()
    plain, total = joined(stream(model, ids[:-1])), 0.0
    for w in range(V):
        ids[-1] = w
        found = joined(cached(model, ids, size, theta=theta, weight=weight, window=4))
        total += math.exp(-found[-1])
    assert total == pytest.approx(1.0, abs=1e-5)
    for t in range(len(plain)):
        past = range(max(0, t - size), t)
        a = np.array([theta * h[t] @ h[i] for i in past])
        if len(a):
            a = np.exp(a - a.max()) / np.exp(a - a.max()).sum()
            share = sum(a[k] for k, i in enumerate(past) if ids[i + 1] == ids[t + 1])
            expected = (1 - weight) * math.exp(-plain[t]) + weight * share
        else:
            expected = math.exp(-plain[t])
        assert math.exp(-found[t]) == pytest.approx(expected, rel=1e-4, abs=1e-12)


def test_a_cache_helps_where_a_text_repeats_itself():
    model = make()
    ids = np.tile(ids_of(model, 10), 20)
    assert joined(cached(model, ids, 100, theta=5.0, weight=0.5)).mean() < joined(stream(model, ids)).mean() - 0.5


def test_a_cache_reads_each_window_once(monkeypatch):
    model, calls = make(), []
    hidden = model.hidden
    monkeypatch.setattr(model, "hidden", lambda ids, state: calls.append(len(ids)) or hidden(ids, state), raising=False)
    joined(cached(model, ids_of(model, 11), 9, window=4))
    assert calls == [4, 4, 2]


def test_nonsense_is_refused():
    model, ids = make(), np.arange(5)
    for options in ({"rate": math.nan}, {"rate": -1.0}, {"rate": 1.0, "decay": 2.0}, {"rate": 1.0, "decay": math.nan}):
        with pytest.raises(UserError):
            dynamic(model, ids, **options)
    for options in ({"size": 0}, {"size": 10**9}, {"size": 3, "weight": 1.5}, {"size": 3, "weight": math.nan},
                    {"size": 3, "theta": -1.0}, {"size": 3, "theta": math.inf}):  # fmt: skip
        with pytest.raises(UserError):
            cached(model, ids, **options)
    with pytest.raises(UserError, match="smaller rate"):
        joined(dynamic(model, model.vocabulary.encode(TEXT), 1e38, window=1))


def test_gradients_show_how_far_they_are():
    model, seen = make(), []
    gradient_rms(model, ids_of(model, 41), window=5, show=lambda progress, text: seen.append(progress))
    assert len(seen) == 8 and seen == sorted(seen) and 0.9 < seen[-1] <= 1
