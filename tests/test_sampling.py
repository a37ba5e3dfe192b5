"""Drawing classes: the distribution is the one that was asked for, and different ones are different."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models.sampling import Alias, LogUniform, distinct, expected_count

WEIGHTS = st.lists(st.sampled_from([0.0, 1e-9, 0.1, 0.5, 1.0, 1.0, 3.0, 1e3]) | st.floats(0, 10), min_size=1,
                   max_size=40).filter(lambda w: sum(w) > 0)  # fmt: skip


def in_the_table(sampler):
    """The distribution that the bins of an alias table hold."""
    found = sampler.keep.copy()
    np.add.at(found, sampler.other, 1 - sampler.keep)
    return found / len(found)


@given(WEIGHTS)
def test_an_alias_table_holds_its_distribution(weights):
    p = np.array(weights) / np.sum(weights)
    sampler = Alias(weights)
    assert sampler.keep.min() > -1e-12 and sampler.keep.max() < 1 + 1e-12
    np.testing.assert_allclose(in_the_table(sampler), p, atol=1e-14 * len(p))
    np.testing.assert_allclose(sampler.probability(range(len(p))), p)
    drawn = sampler.draw(200, np.random.default_rng(0))
    assert (p[drawn] > 0).all()


def test_an_alias_table_of_a_large_vocabulary():
    w = 1 / np.arange(1, 100_001) ** 0.75
    np.testing.assert_allclose(in_the_table(Alias(w)), w / w.sum(), rtol=1e-6)


def chi_squared(counts, p):
    """How many standard deviations the statistic is from its mean, n - 1."""
    expected = counts.sum() * p
    freedom = np.count_nonzero(p) - 1
    seen = p > 0
    return (((counts - expected)[seen] ** 2 / expected[seen]).sum() - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize(
    "sampler",
    [Alias([1.0, 0.0, 5.0, 2.0, 0.25, 8.0]), Alias(1 / np.arange(1.0, 51.0)), Alias([1.0] * 7), LogUniform(50),
     LogUniform(2)],
)  # fmt: skip
def test_draws_follow_the_distribution(sampler):
    p = sampler.probability(np.arange(len(sampler.keep) if isinstance(sampler, Alias) else sampler.classes))
    assert p.sum() == pytest.approx(1)
    drawn = sampler.draw(100_000, np.random.default_rng(1))
    assert drawn.dtype.kind == "i" and abs(chi_squared(np.bincount(drawn, minlength=len(p)), p)) < 4


@given(classes=st.integers(1, 60), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_distinct_classes_are_distinct_and_the_first_that_were_drawn(classes, share, seed):
    count = int(share * classes)
    ids, draws = distinct(LogUniform(classes), count, np.random.default_rng(seed))
    assert len(set(ids.tolist())) == len(ids) == count and draws >= count
    assert not len(ids) or 0 <= ids.min() <= ids.max() < classes


def test_expected_counts_are_those_of_many_draws():
    sampler, rng = LogUniform(20), np.random.default_rng(0)
    seen = np.zeros(20)
    for _ in range(4000):
        seen[np.unique(sampler.draw(15, rng))] += 1
    np.testing.assert_allclose(expected_count(sampler, np.arange(20), 15), seen / 4000, atol=0.03)


@pytest.mark.parametrize("weights", [[], [0.0], [1.0, -1.0], [math.nan], [math.inf, 1.0], [[1.0]]])
def test_weights_that_are_no_distribution_are_refused(weights):
    with pytest.raises(UserError, match="weights"):
        Alias(weights)


def test_more_distinct_classes_than_there_are_is_refused():
    with pytest.raises(UserError, match="distinct.*3 of 2"):
        distinct(Alias([1.0, 0.0, 1.0]), 3, np.random.default_rng(0))
    with pytest.raises(UserError, match="classes"):
        LogUniform(0)
