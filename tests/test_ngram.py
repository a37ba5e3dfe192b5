"""Kneser-Ney: the vectorised counts against dictionaries, and what every distribution must be."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models.lm.ngram import NO_ESTIMATE, KneserNey, fit_weight, mixed


class Dictionary:
    """Modified Kneser-Ney from its definition: tuples in counters."""

    def __init__(self, ids, symbols, order):
        ids = [int(i) for i in ids]
        grams = {k: [tuple(ids[i : i + k]) for i in range(len(ids) - k + 1)] for k in range(1, order + 1)}
        self.symbols, self.order = symbols, order
        self.counts = {order: Counter(grams[order])}
        for k in range(1, order):
            self.counts[k] = Counter(gram[1:] for gram in set(grams[k + 1]))

    def discount(self, k, count):
        n = Counter(self.counts[k].values())
        if not all(n[i] for i in (1, 2, 3, 4)):
            return (0, *NO_ESTIMATE)[min(count, 3)]
        y, i = n[1] / (n[1] + 2 * n[2]), min(count, 3)
        return min(max(i - (i + 1) * y * n[i + 1] / n[i], 0), i) if count else 0

    def p(self, context, word, k=None):
        k = self.order if k is None else min(k, self.order)
        k = min(k, len(context) + 1)
        if k == 0:
            return 1 / self.symbols
        h = tuple(context[len(context) - k + 1 :])
        after = {gram[-1]: c for gram, c in self.counts[k].items() if gram[:-1] == h}
        lower = self.p(context, word, k - 1) if k > 1 else 1 / self.symbols
        total = sum(after.values())
        if not total:
            return lower
        left = sum(self.discount(k, c) for c in after.values()) / total
        count = after.get(word, 0)
        return (count - self.discount(k, count)) / total + left * lower


@st.composite
def corpora(draw):
    symbols, order = draw(st.integers(2, 5)), draw(st.integers(1, 4))
    n, shape, seed = draw(st.integers(order, 80)), draw(st.sampled_from([0.3, 1.0, 30.0])), draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    return rng.choice(symbols, n, p=rng.dirichlet(np.full(symbols, shape))), symbols, order


@given(corpora())
def test_probabilities_are_those_of_the_definition_and_sum_to_one(corpus):
    ids, symbols, order = corpus
    model, definition = KneserNey(ids, symbols, order), Dictionary(ids, symbols, order)
    rng = np.random.default_rng(0)
    for length in range(order + 1):
        context = rng.integers(symbols, size=length)
        found = model.probability(np.tile(context, (symbols, 1)), np.arange(symbols))
        np.testing.assert_allclose(found, [definition.p(context.tolist(), w) for w in range(symbols)], rtol=1e-12)
        assert found.sum() == pytest.approx(1.0, abs=1e-12) and (found > 0).all()


@given(corpora())
def test_a_text_is_the_product_of_its_positions(corpus):
    ids, symbols, order = corpus
    model = KneserNey(ids, symbols, order)
    text = np.random.default_rng(1).integers(symbols, size=12)
    nll = model.nll(text)
    assert nll.shape == (11,)
    for t in range(1, 12):
        assert model.probability(text[None, :t], text[t : t + 1])[0] == pytest.approx(math.exp(-nll[t - 1]), rel=1e-12)


def test_discounts_come_from_the_counts_of_counts():
    """Text whose highest order has all of n_1 .. n_4, so that the formula and not the fallback is what is tested."""
    ids = np.random.default_rng(0).choice(4, 300, p=[0.5, 0.3, 0.15, 0.05])
    model, definition = KneserNey(ids, 4, 3), Dictionary(ids, 4, 3)
    n = Counter(definition.counts[3].values())
    assert all(n[i] for i in (1, 2, 3, 4))
    contexts = np.array([(a, b) for a in range(4) for b in range(4) for _ in range(4)])
    following = np.tile(np.arange(4), 16)
    expected = [definition.p(c.tolist(), w) for c, w in zip(contexts, following)]
    np.testing.assert_allclose(model.probability(contexts, following), expected, rtol=1e-12)


def test_longer_contexts_predict_better_what_repeats():
    ids = np.tile(np.random.default_rng(0).integers(30, size=200), 4)
    nll = [KneserNey(ids[:600], 30, order).nll(ids[600:]).mean() for order in (1, 2, 3)]
    assert nll[0] > nll[1] + 0.5 > nll[2] + 0.5


@given(st.integers(0, 10**6))
def test_the_weight_is_the_best_one(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.gamma(2.0, size=(2, 50))
    best = fit_weight(a, b, steps=20_000)
    assert 0 <= best <= 1
    found = mixed(a, b, best).mean()
    assert all(found <= mixed(a, b, share).mean() + 1e-6 for share in np.linspace(0, 1, 21))
    np.testing.assert_allclose(mixed(a, b, 0.25), -np.log(0.25 * np.exp(-a) + 0.75 * np.exp(-b)), rtol=1e-12)


def test_nonsense_is_refused():
    for order in (0, -1, 99):
        with pytest.raises(UserError, match="order"):
            KneserNey(np.arange(5), 5, order)
    with pytest.raises(UserError, match="3 at least"):
        KneserNey(np.arange(2), 5, 3)
