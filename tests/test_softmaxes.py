"""Output layers: exact log-probabilities, and objectives of training that lead to them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import MinigradError
from minigrad.kernels.sparse import Rows
from minigrad.models.lm.softmaxes import NCE, SOFTMAXES, Adaptive, Exact, Sampled, clusters, make_softmax, shapes
from minigrad.models.sampling import LogUniform, expected_count
from minigrad.testing import check_grad
from minigrad.testing.strategies import SEEDS

every_kind = pytest.mark.parametrize("kind", SOFTMAXES)
CLASSES = st.sampled_from([2, 3, 19, 99, 100, 130])


def make(kind, classes, features=6, samples=5, seed=0, dtype=np.float64):
    layer = make_softmax(kind, features, classes, samples, np.random.default_rng(seed))
    for p in layer.parameters():
        p.data = (p.data + 0.2 * np.random.default_rng(p.size).standard_normal(p.shape)).astype(dtype)
    return layer


def batch(classes, features=6, shape=(4, 3), seed=0, ignored=False, dtype=np.float64):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, shape)
    if ignored:
        targets[rng.random(shape) < 0.4] = -100
    return mg.tensor(rng.standard_normal((*shape, features)).astype(dtype), requires_grad=True), targets


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def picked(logp, targets):
    return np.take_along_axis(logp, targets[..., None], -1)[..., 0]


def gradients(layer, h, f):
    h.grad = None
    layer.zero_grad()
    f().backward()
    return [h.grad.numpy(), *(np.zeros(p.shape) if p.grad is None else p.grad.numpy() for p in layer.parameters())]


# ------------------------------------------------------------------------------------------------ all of them


@given(kind=st.sampled_from(list(SOFTMAXES)), classes=CLASSES, seed=SEEDS)
def test_log_likelihoods_are_those_of_the_logits(kind, classes, seed):
    layer, (h, targets) = make(kind, classes), batch(classes, seed=seed)
    logits = layer.logits(h).numpy()
    assert logits.shape == (*targets.shape, classes)
    logp = log_softmax(logits)
    np.testing.assert_allclose(layer.nll(h, targets).numpy(), -picked(logp, targets), atol=1e-9)
    layer.eval()
    assert layer.loss(h, targets).item() == pytest.approx(-picked(logp, targets).mean())


@given(kind=st.sampled_from(list(SOFTMAXES)), classes=CLASSES, seed=SEEDS, training=st.booleans())
def test_ignored_targets_count_nothing(kind, classes, seed, training):
    layer, (h, targets) = make(kind, classes).train(training), batch(classes, seed=seed, ignored=True)
    counted = targets != -100
    nll = layer.nll(h, targets).numpy()
    assert (nll[~counted] == 0).all()
    state = getattr(layer, "generator", np.random.default_rng()).bit_generator.state
    loss = layer.loss(h, targets)
    if kind in ("sampled", "nce"):
        layer.generator.bit_generator.state = state
    if counted.any():
        alone = layer.loss(mg.tensor(h.numpy()[counted]), targets[counted])
        assert loss.item() == pytest.approx(alone.item())
    else:
        assert loss.item() == 0
    found = gradients(layer, h, lambda: layer.loss(h, targets))
    assert (found[0][~counted] == 0).all() and all(np.isfinite(g).all() for g in found)


@every_kind
@pytest.mark.parametrize("bad", [130, -1])
def test_targets_that_are_no_class_are_refused(kind, bad):
    layer, (h, targets) = make(kind, 130), batch(130)
    targets[1, 1] = bad
    for f in (layer.loss, layer.nll):
        with pytest.raises(MinigradError):
            f(h, targets)


@every_kind
@pytest.mark.parametrize("classes", [2, 99, 130])
def test_shapes_are_known_before_anything_is_made(kind, classes):
    found = {name: p.shape for name, p in make(kind, classes).named_parameters() if p.ndim == 2}
    assert found == shapes(kind, 6, classes)


@every_kind
def test_derivatives_of_every_order(kind):
    layer, (h, targets) = make(kind, 100, features=4), batch(100, features=4, shape=(3, 2))
    targets[0, 0], targets[0, 1], targets[1, 0] = 3, 10, 40  # of each cluster
    names, own = zip(*layer.named_parameters())

    def f(h, *parameters):
        for name, p in zip(names, parameters):
            _set(layer, name, p)
        if hasattr(layer, "generator"):
            layer.generator.bit_generator.state = np.random.default_rng(5).bit_generator.state
        return layer.loss(h, targets), layer.nll(h, targets)

    check_grad(f, h.numpy(), *(p.numpy() for p in own))


def _set(module, name, value):
    *path, last = name.split(".")
    for part in path:
        module = module[int(part)] if part.isdigit() else getattr(module, part)
    setattr(module, last, value)


@every_kind
def test_a_step_in_float32_trains(kind):
    layer, (h, targets) = make(kind, 130, dtype=np.float32), batch(130, dtype=np.float32)
    optimizer = mg.optim.Adam(layer.parameters(), lr=0.05)
    before = layer.nll(h, targets).numpy().mean()
    for _ in range(30):
        optimizer.zero_grad()
        loss = layer.loss(h, targets)
        assert loss.dtype == np.float32
        loss.backward()
        optimizer.step()
    assert layer.nll(h, targets).numpy().mean() < before - 1


# ------------------------------------------------------------------------------------------------ adaptive


@given(classes=CLASSES, features=st.sampled_from([1, 3, 20]), seed=SEEDS)
def test_adaptive_probabilities_are_the_definition_and_sum_to_one(classes, features, seed):
    layer, (h, _) = make("adaptive", classes, features), batch(classes, features, seed=seed)
    p, x, ends = layer.state_dict(), h.numpy(), layer.ends
    head = log_softmax(x @ p["head.weight"].T + p["head.bias"])
    parts = [head[..., : ends[0]]]
    for i in range(len(ends) - 1):
        tail = log_softmax(x @ p[f"tails.{i}.0.weight"].T @ p[f"tails.{i}.1.weight"].T)
        parts.append(tail + head[..., ends[0] + i, None])
    found = layer.logits(h).numpy()
    np.testing.assert_allclose(found, np.concatenate(parts, -1), atol=1e-9)
    np.testing.assert_allclose(np.exp(found).sum(-1), 1)


def test_adaptive_gradients_are_those_of_its_log_probabilities():
    layer, (h, targets) = make("adaptive", 130), batch(130, ignored=True)
    counted = targets != -100

    def definition():
        logp = layer.logits(h)
        return mg.cross_entropy(logp, targets)

    for a, b in zip(gradients(layer, h, lambda: layer.loss(h, targets)), gradients(layer, h, definition)):
        np.testing.assert_allclose(a, b, atol=1e-9)
    assert counted.any()


def test_clusters_rise_and_cover_all_classes():
    for classes in (2, 20, 99, 100, 101, 10_000, 100_000):
        ends, widths = clusters(200, classes)
        assert ends == sorted(set(ends)) and ends[-1] == classes and ends[0] > 0
        assert widths == sorted(widths, reverse=True) and len(widths) == len(ends)


# ------------------------------------------------------------------------------------------------ sampled


@pytest.mark.parametrize("samples", [130, 1000])
def test_sampled_with_every_class_is_the_exact_softmax(samples):
    layer, (h, targets) = make("sampled", 130, samples=samples), batch(130, ignored=True)
    found = gradients(layer, h, lambda: layer.loss(h, targets))
    for a, b in zip(found, gradients(layer, h, lambda: Exact.loss(layer, h, targets))):
        np.testing.assert_allclose(a, b, atol=1e-9)


@given(seed=SEEDS, classes=st.sampled_from([7, 40, 130]))
def test_sampled_is_the_softmax_over_target_and_candidates(seed, classes):
    layer, (h, targets) = make("sampled", classes, seed=seed), batch(classes, seed=seed)
    state = layer.generator.bit_generator.state
    loss = layer.loss(h, targets).item()
    layer.generator.bit_generator.state = state
    ids, log_counts = layer.draw(targets.ravel())
    assert len(ids) == len(set(ids.tolist())) == 5
    z = (h.numpy() @ layer.weight.numpy().T + layer.bias.numpy()).reshape(-1, classes)
    losses = []
    for row, t, own in zip(z, targets.ravel(), log_counts[5:]):
        others = [row[i] - c for i, c in zip(ids, log_counts) if i != t]
        losses.append(-log_softmax(np.array([row[t] - own, *others]))[0])
    assert loss == pytest.approx(np.mean(losses))


def test_log_counts_are_those_of_the_draws():
    layer = make("sampled", 130)
    t = np.array([0, 77])
    ids, found = layer.draw(t)
    draws = [n for n in range(5, 40) if np.allclose(np.exp(found), expected_count(layer.sampler, np.append(ids, t), n))]
    assert len(draws) == 1


@pytest.mark.parametrize("kind", ["sampled", "nce"])
def test_the_step_touches_only_the_rows_of_targets_and_samples(kind):
    layer, (h, targets) = make(kind, 1000), batch(1000, shape=(2, 2))
    layer.loss(h, targets).backward()
    for p in (layer.weight, layer.bias):
        assert type(p.grad.data) is Rows and set(targets.ravel()) <= set(p.grad.data.positions)
        assert len(p.grad.data.positions) <= 4 + 5


@pytest.mark.parametrize("kind", ["sampled", "nce"])
def test_a_seed_repeats_the_samples(kind):
    h, targets = batch(130)
    a, b, c = (make(kind, 130, seed=s).loss(h, targets).item() for s in (1, 1, 2))
    assert make(kind, 130, seed=1).weight.numpy().shape == (130, 6)
    assert a == b != c


def at_the_truth(kind, samples, p):
    """A layer whose logits are log p whatever h is."""
    layer = make_softmax(kind, 1, len(p), samples, np.random.default_rng(0))
    layer.weight.data, layer.bias.data = np.zeros((len(p), 1)), np.log(p)
    return layer


def expected_gradient(layer, p, runs):
    """Of the loss by the bias, the data being drawn from p: its mean over many samples."""
    n = 1000
    targets = np.repeat(np.arange(len(p)), np.round(n * p).astype(int))
    h = mg.tensor(np.zeros((len(targets), 1)))
    total = np.zeros(len(p))
    for _ in range(runs):
        layer.zero_grad()
        layer.loss(h, targets).backward()
        total += layer.bias.grad.numpy()
    return total / runs


P = np.array([0.4, 0.1, 0.2, 0.05, 0.05, 0.2])


def test_the_truth_is_where_nce_ends():
    """At s = log p its gradient has the mean 0 (Gutmann and Hyvarinen 2012), and without the correction it has not."""
    layer = at_the_truth("nce", 3, P)
    layer.bias.data = np.log(P * len(P))  # s = b - log V
    assert np.abs(expected_gradient(layer, P, 1500)).max() < 0.02
    layer.bias.data = np.zeros(6)
    assert np.abs(expected_gradient(layer, P, 300)).max() > 0.1


def test_the_truth_is_where_sampled_softmax_ends():
    """Up to the correlation of different draws, which falls with K: 0.031 for 3 of 6, here 0.010; without the
    correction 0.11."""
    p = np.round(1000 / np.arange(1.0, 31) / (1 / np.arange(1.0, 31)).sum()) / 1000
    p /= p.sum()
    layer = at_the_truth("sampled", 12, p)
    right = np.abs(expected_gradient(layer, p, 500)).max()
    layer.draw = lambda t: (Sampled.draw(layer, t)[0], np.zeros(12 + len(t)))
    assert right < 0.015 and np.abs(expected_gradient(layer, p, 200)).max() > 0.1


def test_the_mean_of_nce_is_its_expectation():
    """E = softplus(-d_t) + K sum_i q_i softplus(d_i), d_i = s_i - log(K q_i): no noise is left out."""
    layer, (h, targets) = make("nce", 7, samples=4), batch(7)
    z = (h.numpy() @ layer.weight.numpy().T + layer.bias.numpy()).reshape(-1, 7)
    q = LogUniform(7).probability(np.arange(7))
    d = z - math.log(7) - np.log(4 * q)
    expected = (np.log1p(np.exp(-picked(d, targets.ravel()))) + 4 * (q * np.log1p(np.exp(d))).sum(-1)).mean()
    found = [layer.loss(h, targets).item() for _ in range(2000)]
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / math.sqrt(2000))


def test_names_and_classes():
    assert isinstance(make("nce", 5), NCE) and isinstance(make("adaptive", 5), Adaptive)
    assert make("sampled", 5, samples=9).samples == 9
