"""PCA and t-SNE: against their definitions, for few points, equal points and points far apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import UserError
from minigrad.models.embed import project
from minigrad.models.embed.project import affinities, divergence, gradient, pca, tsne

seeds = st.integers(0, 2**32 - 1)


def drawn(seed, n, dims, copies=False, scale=1.0):
    rng = np.random.default_rng(seed)
    x = scale * rng.standard_normal((n, dims))
    return x[rng.integers(n, size=n)] if copies else x


def clusters(n, k, dims=10, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % k
    return 8 * rng.standard_normal((k, dims))[labels] + rng.standard_normal((n, dims)), labels


def distances(x):
    return np.square(x[:, None] - x).sum(2)


# ------------------------------------------------------------------------------------------------ PCA


@given(seeds, st.integers(1, 12), st.integers(1, 8), st.integers(1, 3))
def test_pca_is_the_eigendecomposition_of_the_covariance(seed, n, size, dims):
    x = drawn(seed, n, size)
    y, shares = pca(x, dims)
    values, vectors = np.linalg.eigh((x - x.mean(0)).T @ (x - x.mean(0)))
    expected = ((x - x.mean(0)) @ vectors[:, ::-1])[:, :dims]
    kept = expected.shape[1]
    assert y.shape == (n, dims) and shares.shape == (dims,)
    np.testing.assert_allclose(np.abs(y[:, :kept]), np.abs(expected), atol=1e-6)
    assert not y[:, kept:].any() and not shares[kept:].any()
    if n > 1:
        np.testing.assert_allclose(shares[:kept], values[::-1][:kept] / values.sum(), atol=1e-9)


def test_the_sign_of_pca_does_not_depend_on_the_order_of_points():
    x = drawn(3, 20, 5)
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_allclose(pca(x)[0][order], pca(x[order])[0], atol=1e-12)


def test_pca_of_what_has_no_variance_and_of_huge_numbers():
    y, shares = pca(np.ones((4, 3)))
    assert not y.any() and not shares.any()
    y, shares = pca(1e200 * drawn(0, 6, 3))
    np.testing.assert_allclose(y, 1e200 * pca(drawn(0, 6, 3))[0], rtol=1e-9)


# ------------------------------------------------------------------------------------------------ t-SNE


def naive_affinities(x, p):
    """From the betas that the rows of the joint P imply: no part of the code under test is used but the result."""
    d = distances(x)
    np.fill_diagonal(d, np.inf)
    low, high = np.full(len(x), -60.0), np.full(len(x), 60.0)
    for _ in range(200):
        middle = (low + high) / 2
        e = np.exp(-np.exp(middle)[:, None] * (d - d.min(1, keepdims=True)))
        c = e / e.sum(1, keepdims=True)
        entropy = -np.where(c > 0, c * np.log(np.where(c > 0, c, 1)), 0).sum(1)
        low, high = np.where(entropy > np.log(p), middle, low), np.where(entropy > np.log(p), high, middle)
    return (c + c.T) / (2 * len(x))


@settings(max_examples=30)
@given(seeds, st.integers(4, 40), st.integers(1, 6), st.floats(0.05, 0.9))
def test_affinities_equal_the_definition(seed, n, size, share):
    x = drawn(seed, n, size)
    perplexity = 1 + share * (n - 2)
    p = affinities(x, perplexity)
    np.testing.assert_allclose(p, naive_affinities(x, perplexity), atol=1e-6)
    np.testing.assert_allclose(p, affinities(1e6 * x + 3, perplexity), atol=1e-6)  # neither scale nor place matters
    assert (p == p.T).all() and not p.diagonal().any() and p.sum() == pytest.approx(1)


@settings(max_examples=40)
@given(seeds, st.integers(2, 40), st.integers(1, 3), st.booleans(), st.floats(1e-3, 30))
def test_the_gradient_in_closed_form_equals_the_derivative_of_the_definition(seed, n, dims, copies, scale):
    p = affinities(drawn(seed, n, 4), project.usual_perplexity(n))
    y = drawn(seed + 1, n, dims, copies, scale)
    expected, by_definition = mg.value_and_grad(lambda y: divergence(p, y))(y)
    found, value = gradient(p, y)
    np.testing.assert_allclose(found, by_definition.numpy(), atol=1e-10)
    assert value == pytest.approx(expected.item(), abs=1e-10)


def test_the_divergence_is_that_of_the_paper():
    p, y = affinities(drawn(0, 12, 4), 3), drawn(1, 12, 2)
    w = 1 / (1 + distances(y))
    np.fill_diagonal(w, 0)
    q, others = w / w.sum(), ~np.eye(12, dtype=bool)
    expected = (p[others] * np.log(p[others] / q[others])).sum()
    assert divergence(p, y).item() == pytest.approx(expected, abs=1e-12)


def test_the_gradient_by_finite_differences():
    p, y, step = affinities(drawn(0, 9, 4), 3), drawn(1, 9, 2), 1e-6
    found = gradient(p, y)[0]
    for i, k in np.ndindex(y.shape):
        d = np.zeros_like(y)
        d[i, k] = step
        slope = (divergence(p, y + d).item() - divergence(p, y - d).item()) / (2 * step)
        assert found[i, k] == pytest.approx(slope, abs=1e-8)


def test_the_plain_descent_goes_the_same_way():
    x = drawn(0, 30, 5)
    fast, plain = tsne(x, steps=30), tsne(x, steps=30, plain=True)
    np.testing.assert_allclose(fast[0], plain[0], atol=1e-4)
    assert fast[1] == pytest.approx(plain[1], abs=1e-4)


@pytest.mark.parametrize("n", [20, 300])  # one thread, and all of them
def test_a_seed_repeats_to_the_bit(n):
    x = drawn(0, n, 5)
    a, b, c = (tsne(x, generator=s, steps=60)[0] for s in (1, 1, 2))
    assert a.tobytes() == b.tobytes() != c.tobytes()


def test_separated_clusters_stay_separated():
    x, labels = clusters(120, 6)
    y, kl = tsne(x, steps=500)
    near = np.argsort(distances(y), 1)[:, 1:6]
    assert (labels[near] == labels[:, None]).all() and kl < 0.3
    assert kl == pytest.approx(divergence(affinities(x, 30), y.astype(float)).item(), abs=1e-9)


@pytest.mark.parametrize("n", range(1, 8))
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_few_points(n, dims):
    for x in (drawn(0, n, 3), np.ones((n, 3)), drawn(0, n, 1), 1e300 * drawn(0, n, 3)):
        y, kl = tsne(x, dims, steps=40)
        assert y.shape == (n, dims) and np.isfinite(y).all() and -1e-6 < kl < 3


def test_equal_points_stay_together():
    x = np.repeat(drawn(0, 5, 4), 12, axis=0)
    for perplexity in (2, 8, 11, 30, 59):  # fewer, as many, and more neighbours than there are equal points
        y, _ = tsne(x, perplexity=perplexity, steps=400)
        assert np.isfinite(y).all()
        if perplexity == 8:
            near = np.argsort(distances(y), 1)[:, :12] // 12
            assert (near == np.arange(60)[:, None] // 12).all()


def test_a_point_far_away():
    y, _ = tsne(np.vstack([drawn(0, 30, 3), [[1e6, 0, 0]]]), steps=100)
    assert np.isfinite(y).all()


def test_progress():
    seen = []
    tsne(drawn(0, 5, 2), steps=120, show=lambda share, text: seen.append((share, text)))
    assert seen[0] == (0.0, "perplexities") and seen[-1] == (100 / 120, "step 100 of 120")


@pytest.mark.parametrize("call, said", [
    (lambda: tsne(np.zeros((10, 2)), perplexity=9.5), "perplexity 9.5, expected 1 to 9 for 10 points"),
    (lambda: tsne(np.zeros((10, 2)), perplexity=0.5), "perplexity 0.5"),
    (lambda: tsne(np.zeros((10, 2)), perplexity=float("nan")), "perplexity nan"),
    (lambda: tsne(np.zeros((10, 2)), steps=0), "steps=0"),
    (lambda: tsne(np.zeros((10, 2)), exaggeration=0.5), "exaggeration=0.5"),
    (lambda: tsne(np.zeros((10_001, 1))), "10,001 points"),
    (lambda: tsne(np.zeros((0, 2))), r"shape \(0, 2\)"),
    (lambda: tsne(np.zeros(3)), r"shape \(3,\)"),
    (lambda: tsne([["a", "b"]]), "numbers"),
    (lambda: tsne([[1.0, float("nan")]]), "NaN"),
    (lambda: pca([[1.0, float("inf")]]), "infinite"),
    (lambda: pca([[1.0, 2.0]], dims=4), "dims=4"),
])  # fmt: skip
def test_what_is_refused(call, said):
    with pytest.raises(UserError, match=said):
        call()
