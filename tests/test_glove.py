"""GloVe: counts equal a dictionary's whatever the memory, and the kernel equals the graph and the written-out step."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models.embed import cooccurrence, glove, hogwild
from minigrad.models.embed.glove import GloVe, GloVeTraining, count, train_glove
from minigrad.models.training import Diverged
from minigrad.testing import check_grad

TINY = 0.002  # megabytes: 64 places


def by_hand(tokens, window):
    """X as a dictionary: the definition."""
    found, sentence = defaultdict(float), []
    for t in tokens:
        if t == -1:
            sentence = []
        elif t >= 0:
            for d, other in enumerate(reversed(sentence[-window:]), 1):
                found[t, other] += 1 / d
                found[other, t] += 1 / d
            sentence.append(t)
    return found


def corpus(n=400, words=30, seed=0):
    rng = np.random.default_rng(seed)
    return np.minimum(rng.zipf(1.3, n) - 1, words - 1).astype(np.int32)


# ------------------------------------------------------------------------------------------------ counting


@given(
    tokens=st.lists(st.sampled_from([-2, -1, 0, 0, 0, 1, 2, 3]) | st.integers(-3, 40), max_size=300),
    window=st.sampled_from([1, 2, 5, 10, 25, 30]),
    memory=st.sampled_from([TINY, 0.01, 1.0]),
    first=st.integers(0, 3),
)
def test_counts_are_those_of_a_dictionary(tokens, window, memory, first):
    counts = count(np.array(tokens, np.int32) + np.int32(first), 41, window, memory, first)
    expected = by_hand(tokens, window)
    x = counts.dense()
    assert len(counts) == len(expected) == np.count_nonzero(x)
    rtol = 1e-12 if window <= 22 else 1e-7
    for (i, j), value in expected.items():
        assert x[i, j] == pytest.approx(value, rel=rtol)
    unordered = {tuple(sorted(p)) for p in zip(counts.pairs["i"].tolist(), counts.pairs["j"].tolist())}
    assert len(unordered) == len(counts.pairs)  # each pair once


@given(seed=st.integers(0, 1000), window=st.integers(1, 8))
def test_memory_changes_nothing(seed, window):
    tokens = np.random.default_rng(seed).integers(-2, 200, 3000).astype(np.int32)
    few, many = count(tokens, 200, window, memory=TINY), count(tokens, 200, window, memory=8)
    np.testing.assert_array_equal(few.pairs, many.pairs)


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_a_key_leads_back_to_its_pair(i, j):
    with np.errstate(over="ignore"):
        assert int(cooccurrence.unmixed(cooccurrence.mixed(i, j))) == i << 32 | j


def test_nothing_to_count():
    assert len(count(np.zeros(0, np.int32), 5)) == len(count(np.array([1, -1, 2, -2], np.int32), 5)) == 0


@pytest.mark.parametrize(
    "tokens, options, message",
    [([0, 7], {"words": 7}, "[co-occurrences] got 7 at 1, expected tokens below 7"),
     ([0], {"words": 7, "window": 0}, "[co-occurrences] got window 0 of 7 words"),
     ([0], {"words": 0}, "[co-occurrences] got window 10 of 0 words"),
     ([0], {"words": 7, "memory": 0}, "[co-occurrences] got memory of 0 MB"),
     ([0], {"words": 7, "memory": -5}, "[co-occurrences] got memory of -5 MB")],
)  # fmt: skip
def test_bad_input_of_counting(tokens, options, message):
    with pytest.raises(UserError) as caught:
        count(np.array(tokens, np.int32), **options)
    assert message in str(caught.value)


# ------------------------------------------------------------------------------------------------ the objective


def test_gradients_of_the_objective():
    i, j, x = np.array([0, 1, 0, 2, 2]), np.array([1, 1, 1, 0, 2]), np.array([0.5, 3.0, 20.0, 10.0, 1.0])
    model = GloVe(3, 4, x_max=10, generator=0, dtype=np.float64)

    def loss(w, c, b, d):
        model.w, model.c, model.b, model.d = w, c, b, d
        return model.loss(i, j, x)

    check_grad(loss, *[np.array(p.numpy()) for p in model.parameters()])


def test_the_objective_is_that_of_the_paper():
    model = GloVe(3, 2, x_max=10, generator=0, dtype=np.float64)
    w, c, b, d = (p.numpy() for p in model.parameters())
    errors = [w[i] @ c[j] + b[i] + d[j] - np.log(x) for i, j, x in [(0, 1, 5.0), (2, 2, 40.0)]]
    expected = 0.5 * (0.5**0.75 * errors[0] ** 2 + errors[1] ** 2)
    assert model.loss([0, 2], [1, 2], [5.0, 40.0]).item() == pytest.approx(expected, rel=1e-12)


# ------------------------------------------------------------------------------------------------ training


def by_definition(model, squares, records, rates):
    """Steps of records: the gradients are the graph's; gives the losses."""
    losses = []
    for i, j, x in records:
        for r in range(len(i)):
            model.zero_grad()
            loss = model.loss(i[r : r + 1], j[r : r + 1], x[r : r + 1])
            loss.backward()
            losses.append(loss.item())
            for p, s, rate in zip(model.parameters(), squares, rates):
                g = rate * p.grad.numpy()
                p.data = p.numpy() - g / np.sqrt(1 + s)
                s += g * g
    return losses


@pytest.mark.parametrize("bias_lr", [None, 1.0])
def test_the_kernel_equals_the_graph_record_by_record(monkeypatch, bias_lr):
    monkeypatch.setattr(glove, "BLOCK", 50)
    counts = count(corpus(), 30, window=3)
    training = GloVeTraining(counts, 5, 2, x_max=3, lr=0.1, bias_lr=bias_lr, dtype=np.float64)
    model = GloVe(30, 5, x_max=3, generator=1, dtype=np.float64)
    squares = [np.zeros(p.shape) for p in model.parameters()]
    run = iter(training)
    for epoch in (1, 2):
        losses = by_definition(model, squares, list(training.records()), [0.1, 0.1, bias_lr or 0.1, bias_lr or 0.1])
        while next(run).done < len(counts):
            pass
        assert len(losses) == len(counts)
        assert training.losses[-1] == pytest.approx(np.mean(losses), rel=1e-10), epoch
        for (name, p), q in zip(model.named_parameters(), training.model.parameters()):
            np.testing.assert_allclose(q.numpy(), p.numpy(), rtol=1e-10, atol=1e-12, err_msg=name)


def test_a_record_twice_in_a_block_is_two_steps():
    i, j, x = np.array([0, 0, 1, 0]), np.array([1, 1, 1, 1]), np.array([2.0, 2.0, 7.0, 2.0])
    model = GloVe(2, 3, generator=0, dtype=np.float64)
    flat = [p.numpy().ravel().copy() for p in model.parameters()]
    cost, squares = np.zeros(1), [np.zeros(p.shape) for p in model.parameters()]
    own = [np.zeros_like(a) for a in flat]
    glove._STEP[np.dtype(float)](i, j, x, *flat, *own, 3, np.array([100, 0.75, 0.05, 0.05]), cost)
    assert cost[0] == pytest.approx(sum(by_definition(model, squares, [(i, j, x)], [0.05] * 4)), rel=1e-12)
    for a, p, s, t in zip(flat, model.parameters(), own, squares):
        np.testing.assert_allclose(a, p.numpy().ravel(), rtol=1e-12)
        np.testing.assert_allclose(s, t.ravel(), rtol=1e-10)


def test_an_epoch_has_every_record_once_in_an_order_of_its_own(monkeypatch):
    monkeypatch.setattr(glove, "BLOCK", 64)
    counts = count(corpus(), 30, window=4)
    training = GloVeTraining(counts, 2, 2)
    orders = []
    for _ in range(2):
        i, j, x = (np.concatenate(parts) for parts in zip(*training.records()))
        found = np.zeros((30, 30))
        np.add.at(found, (i, j), x)
        np.testing.assert_allclose(found, counts.dense(), rtol=1e-6)
        assert len(i) == len(counts)
        orders.append((i * 30 + j).tolist())
        training.losses.append(0.0)  # the next epoch
    assert orders[0] != orders[1]


def test_one_thread_repeats_and_goes_on_to_the_last_bit(monkeypatch):
    monkeypatch.setattr(glove, "BLOCK", 16)
    monkeypatch.setattr(hogwild, "TASKS", 3)
    counts = count(corpus(), 30, window=4)
    whole = GloVeTraining(counts, 6, 3, seed=5)
    reports = list(whole)
    assert reports[-1].loss == whole.losses[-1] and len(reports) > 6
    cut = GloVeTraining(counts, 6, 3, seed=5)
    run = iter(cut)
    for _ in range(4):
        next(run)
    state = {name: a.copy() for name, a in cut.state().items()}
    next(run)
    later = GloVeTraining(counts, 6, 3, seed=5)
    later.restore("file", state)
    assert list(later) == reports[4:] and later.losses == whole.losses
    np.testing.assert_array_equal(later.vectors(), whole.vectors())
    state["squares.w"] = state["squares.w"][1:]
    with pytest.raises(UserError, match="a damaged state of training"):
        later.restore("file", state)


def test_threads_learn_as_well(monkeypatch):
    monkeypatch.setattr(glove, "BLOCK", 64)
    counts = count(corpus(4000, 100), 100, window=5)
    one, two = (GloVeTraining(counts, 8, 5, threads=n, x_max=10) for n in (1, 2))
    for training in (one, two):
        assert sum(1 for _ in training) >= 5 and len(training.losses) == 5
    assert two.losses[-1] == pytest.approx(one.losses[-1], rel=0.05)
    assert one.losses[-1] < 0.7 * one.losses[0]


def test_single_precision_is_close_to_double():
    counts = count(corpus(2000, 60), 60, window=5)
    runs = [GloVeTraining(counts, 8, 3, x_max=10, dtype=dtype) for dtype in (np.float32, np.float64)]
    for training in runs:
        list(training)
    np.testing.assert_allclose(runs[0].losses, runs[1].losses, rtol=1e-5)


def test_progress_is_told_and_vectors_given():
    counts, seen = count(corpus(), 30), []
    vectors = train_glove(counts, 4, 2, progress=seen.append, x_max=10)
    assert vectors.shape == (30, 4) and vectors.dtype == np.float32
    assert [(p.epoch, p.done, p.total) for p in seen] == [(1, len(counts), len(counts)), (2, len(counts), len(counts))]


@pytest.mark.parametrize(
    "tokens, got", [([3] * 9, "one word, next to itself"), ([0, -1, 1], "no words next to each other")]
)
def test_too_little_to_learn_from(tokens, got):
    with pytest.raises(UserError, match=got):
        train_glove(count(np.array(tokens, np.int32), 5), 4, 1)
    with pytest.raises(UserError, match=r"two different words at least"):
        train_glove(count(np.zeros(9, np.int32), 1), 4, 1)


@pytest.mark.parametrize("option", [{"dim": 0}, {"lr": -1.0}, {"x_max": float("nan")}, {"threads": 0}])
def test_bad_settings(option):
    with pytest.raises(UserError, match="a number above 0"):
        GloVeTraining(count(corpus(), 30), **option)


def test_divergence_is_told():
    with pytest.raises(Diverged, match="try a smaller --lr"):
        train_glove(count(corpus(), 30), 4, 50, lr=1e20)
