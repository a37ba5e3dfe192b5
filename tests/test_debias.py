"""Hard debiasing: the direction of a bias, words without it, and pairs that differ in nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models.embed.debias import bias, bias_directions, debias, equalise, neutralise
from minigrad.models.embed.vectors import WordVectors

PAIRS = [("she", "he"), ("woman", "man"), ("mother", "father")]
NEUTRAL = ["nurse", "doctor", "table"]


def biased(seed=0, dim=12):
    """Vectors in which the pairs differ by one direction, and some noise."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(dim)
    direction /= np.linalg.norm(direction)
    rows = {}
    for a, b in PAIRS:
        middle = rng.standard_normal(dim)
        rows[a] = middle + 2 * direction + 0.05 * rng.standard_normal(dim)
        rows[b] = middle - 2 * direction + 0.05 * rng.standard_normal(dim)
    rows |= {word: rng.standard_normal(dim) + s * direction for word, s in zip(NEUTRAL, (1.5, -1.5, 0.0))}
    return WordVectors(rows, list(rows.values())), direction


def test_the_direction_is_found_and_points_to_the_first_words():
    for seed in range(5):
        v, direction = biased(seed)
        (b,) = bias_directions(v, PAIRS)
        assert b @ direction > 0.95
        (other,) = bias_directions(v, [pair[::-1] for pair in PAIRS])
        np.testing.assert_allclose(other, -b, atol=1e-9)
        assert bias(v, ["she"], b[None])[0] > 0 > bias(v, ["he"], b[None])[0]


def test_the_direction_is_the_principal_component():
    """Of the differences from the mean of each pair, by the covariance of the paper."""
    v, _ = biased()
    covariance = np.zeros((v.dim, v.dim))
    for pair in PAIRS:
        unit = v[pair].astype(np.float64) / np.linalg.norm(v[pair].astype(np.float64), axis=1, keepdims=True)
        centred = unit - unit.mean(0)
        covariance += centred.T @ centred / 2
    values, found = np.linalg.eigh(covariance)
    b = bias_directions(v, PAIRS, 2)
    np.testing.assert_allclose(np.abs(b @ found[:, :-3:-1]), np.eye(2), atol=1e-8)
    np.testing.assert_allclose(b @ b.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(bias(v, NEUTRAL, b), np.linalg.norm(v.unit[[6, 7, 8]] @ b.T, axis=1), atol=1e-6)


@given(st.integers(0, 999), st.integers(1, 3))
def test_what_debiasing_promises(seed, k):
    v, _ = biased(seed)
    b = bias_directions(v, PAIRS, k)
    fair = debias(v, b, NEUTRAL, PAIRS)
    assert np.abs(bias(v, NEUTRAL[:2], b)).min() > np.abs(bias(fair, NEUTRAL, b)).max()
    np.testing.assert_allclose(bias(fair, NEUTRAL, b), 0, atol=1e-6)
    np.testing.assert_allclose(fair.norms, 1, atol=1e-6)
    for one, other in PAIRS:
        for word in NEUTRAL:  # equally near by the cosine, and equally far
            assert fair.similarity(word, one) == pytest.approx(fair.similarity(word, other), abs=1e-6)
        rest = fair[[one, other]] - (fair[[one, other]] @ b.T) @ b
        np.testing.assert_allclose(rest[0], rest[1], atol=1e-6)
        np.testing.assert_allclose(bias(fair, [one], b), (-1 if k == 1 else 1) * bias(fair, [other], b), atol=1e-6)


def test_other_words_stay_and_the_input_is_not_changed():
    v, _ = biased()
    before = v.array.copy()
    fair = debias(v, bias_directions(v, PAIRS), ["nurse"], PAIRS[:1])
    np.testing.assert_array_equal(v.array, before)
    assert [w for w, a, b in zip(v.words, fair.array, v.unit) if not np.array_equal(a, b)] == ["she", "he", "nurse"]
    assert debias(v, bias_directions(v, PAIRS), []).words == v.words


def test_once_is_enough():
    v, _ = biased()
    b = bias_directions(v, PAIRS)
    fair = debias(v, b, NEUTRAL, PAIRS)
    np.testing.assert_allclose(debias(fair, b, NEUTRAL, PAIRS).array, fair.array, atol=1e-6)


def test_bad_input():
    v, _ = biased()
    b = bias_directions(v, PAIRS)
    same = WordVectors("abc", [[1, 0], [2, 0], [0, 1]])
    for call, said in (
        (lambda: bias_directions(v, []), "no pair"),
        (lambda: bias_directions(v, [("she", "she")]), "a set of one word"),
        (lambda: bias_directions(v, PAIRS, 4), "4 directions of pairs that have 3"),
        (lambda: bias_directions(v, PAIRS, 0), "0 directions"),
        (lambda: bias_directions(v, [("she", "hex")]), "'hex'.*'he'"),
        (lambda: bias_directions(same, ["ab"]), "equal vectors"),
        (lambda: debias(v, b, ["nurse"], [("nurse", "doctor")]), "'nurse' among the neutral words"),
        (lambda: debias(v, b, ["nurs"]), "'nurse'"),
        (lambda: neutralise(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[1.0, 0.0]])), "row 1"),
        (lambda: equalise(np.array([[0.6, 0.8], [0.6, -0.8]]), np.array([[1.0, 0.0]])), "do not differ"),
    ):
        with pytest.raises(UserError, match=said):
            call()
