"""The objectives of word2vec and fastText: graphs against finite differences, the fused loop against the graphs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.models.embed import words
from minigrad.models.embed.blocks import Drawing, huffman, kept_share
from minigrad.models.embed.fused import step
from minigrad.models.embed.objectives import CBOW, SkipGram, Softmax
from minigrad.models.embed.subwords import NGrams
from minigrad.models.embed.words import WordTraining, words_of
from minigrad.models.text import Text

RHYME = Text(
    "rhyme", "the cat sat on the mat .\nthe dog sat on the log .\na king and a queen met a man and a woman .\n" * 12
)


def model_of(objective, rows, dim, outputs, seed):
    """Values that are not near 0."""
    model = objective(rows, dim, outputs, generator=seed, dtype=np.float64)
    rng = np.random.default_rng(seed)
    model.W.data, model.C.data = rng.standard_normal((rows, dim)), rng.standard_normal((outputs, dim))
    return model


def descend(model, blocks, rate):
    """The definition: one step of SGD for each block; the sum of the losses."""
    optimizer, total = mg.optim.SGD(model.parameters(), lr=rate), 0.0
    for n in range(len(blocks)):
        own = slice(*blocks.row_start[n : n + 2]), slice(*blocks.output_start[n : n + 2])
        loss = model.loss(blocks.rows[own[0]], blocks.outputs[own[1]], blocks.labels[own[1]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total


@pytest.mark.parametrize("objective", [SkipGram, Softmax])
def test_gradients_of_the_definitions(objective):
    rows, outputs, labels = [1, 2, 1], [0, 3, 3], [1, 0, 0]
    model = model_of(objective, 4, 3, 5, 0)

    def loss(W, C):
        model.W, model.C = W, C
        return model.loss(rows, outputs, labels)

    mg.testing.check_grad(loss, model.W, model.C, order=2)


def test_the_gradient_of_cbow_is_that_of_the_sum():
    """The value is that of the mean, and so the true gradient of W is 1/n of the one that is taken."""
    rows, outputs, labels = [1, 2, 1, 0], [0, 3], [1, 0]
    model = model_of(CBOW, 4, 3, 5, 0)

    def of_mean(W):
        s = mg.mean(mg.embedding(W, rows), 0, keepdims=True) @ mg.embedding(model.C, outputs).T
        return mg.sum(mg.softplus(s) - s * mg.tensor([[1.0, 0.0]], dtype=np.float64))

    loss = model.loss(rows, outputs, labels)
    loss.backward()
    assert loss.item() == pytest.approx(of_mean(model.W).item(), rel=1e-12)
    np.testing.assert_allclose(model.W.grad.numpy(), 4 * mg.grad(of_mean)(model.W).numpy(), rtol=1e-12)


@given(st.integers(0, 10**6), st.sampled_from([SkipGram, CBOW, Softmax]), st.integers(0, 7), st.booleans(),
       st.sampled_from([5, 17]))  # fmt: skip
def test_the_fused_loop_equals_the_graphs(seed, objective, negatives, subwords, dim):
    rng = np.random.default_rng(seed)
    V = int(rng.integers(2, 9))
    tokens = rng.integers(0, V + 2, rng.integers(2, 60)).astype(np.int32)
    bags = None
    if subwords and objective is CBOW:
        start = np.concatenate([[0], rng.integers(1, 5, V).cumsum()])
        bags = rng.integers(0, V + 4, start[-1]).astype(np.int32), start
    negatives = max(negatives, 1) if objective is Softmax else negatives
    window, together = int(rng.integers(1, 4)), objective is CBOW and bool(rng.integers(2) or not bags)
    drawing = Drawing(rng.integers(1, 9, V), window, negatives, together, threshold=0.3, bags=bags)
    blocks = drawing(tokens, seed)
    model = model_of(objective, V + 4, dim, V if objective is Softmax else drawing.outputs, seed)
    W, C = model.W.numpy().copy(), model.C.numpy().copy()
    total = step(objective, blocks, W, C, 0.1)
    assert total == pytest.approx(descend(model, blocks, 0.1), rel=1e-10, abs=1e-10)
    np.testing.assert_allclose(W, model.W.numpy(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(C, model.C.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("objective, options", [
    (SkipGram, {}), (CBOW, {}), (SkipGram, {"negatives": 0}), (CBOW, {"negatives": 0}), (Softmax, {}),
    (SkipGram, {"subwords": NGrams(3, 4, 50)}), (CBOW, {"subwords": NGrams(3, 4, 50)}),
])  # fmt: skip
def test_an_epoch_equals_its_definition(objective, options, monkeypatch):
    """The whole training of one thread, with its falling rate: 1e-10."""
    monkeypatch.setattr(words, "PIECE", 300)
    training = WordTraining(words_of(RHYME, 1), objective, dim=5, epochs=1, lr=0.05, dtype=np.float64, **options)
    drawn = [(training.drawing(training.words.tokens[first:][:300], seed), before)
             for first, seed, before in training.tasks()]  # fmt: skip
    model = training.objective(*training.arrays["W"].shape, len(training.arrays["C"]), dtype=np.float64)
    model.W.data, model.C.data = (training.arrays[name].copy() for name in "WC")
    total = sum(descend(model, blocks, 0.05 * (1 - before)) for blocks, before in drawn)
    list(training)
    assert training.losses[0] == pytest.approx(total / sum(blocks.pairs for blocks, _ in drawn), rel=1e-10)
    np.testing.assert_allclose(training.arrays["W"], model.W.numpy(), atol=1e-10)
    np.testing.assert_allclose(training.arrays["C"], model.C.numpy(), atol=1e-10)


# ---------------------------------------------------------------- what is drawn


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_pairs_lie_in_windows_and_sentences(seed, window):
    """Every input of a block is a neighbour of its word, in the window and the sentence; unknown words do not count."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 7, 40).astype(np.int32)
    blocks = Drawing(np.ones(5, int), window, 2)(tokens, seed)
    sentences = [[t - 2 for t in part if t >= 2] for part in np.split(tokens, np.flatnonzero(tokens == 1))]
    places = [(s, i) for s in sentences for i in range(len(s)) if len(s) > 1]
    assert len(blocks) == len(places)
    for n, (s, i) in enumerate(places):
        rows = blocks.rows[blocks.row_start[n] : blocks.row_start[n + 1]].tolist()
        assert any(rows == s[max(i - r, 0) : i] + s[i + 1 : i + 1 + r] for r in range(1, window + 1))
        outputs, labels = (a[blocks.output_start[n] : blocks.output_start[n + 1]].tolist() for a in blocks[2:4])
        assert outputs[0] == s[i] and labels == [1] + [0] * (len(labels) - 1) and s[i] not in outputs[1:]


def test_drawn_words_follow_counts_to_the_power():
    counts = np.array([100, 30, 10, 3, 1])
    blocks = Drawing(counts, 1, 50)(np.tile([2, 3, 4, 5, 6], 2000).astype(np.int32), 1)
    word = np.repeat(blocks.outputs[blocks.output_start[:-1]], np.diff(blocks.output_start))
    p = counts**0.75 / (counts**0.75).sum()
    for w in range(5):
        drawn = blocks.outputs[(blocks.labels == 0) & (word == w)]
        seen = np.bincount(drawn, minlength=5)
        expected = np.where(np.arange(5) == w, 0, p) / (1 - p[w]) * len(drawn)
        others = np.arange(5) != w
        assert seen[w] == 0
        assert ((seen - expected)[others] ** 2 / expected[others]).sum() < 25  # chi-squared, 3 degrees: p = 1.5e-5


def test_reaches_are_uniform_and_frequent_words_are_thinned():
    blocks = Drawing(np.ones(3), 4, 1)(np.tile([2, 3, 4], 20_000).astype(np.int32), 3)
    widths = np.bincount(np.diff(blocks.row_start)[10:-10], minlength=9)[2::2]
    assert abs(widths / widths.sum() - 0.25).max() < 0.01
    counts = np.array([60_000, 30, 30])
    keep = kept_share(counts, 1e-3)
    kept = len(Drawing(counts, 1, 1, threshold=1e-3)(np.full(60_000, 2, np.int32), 3))
    assert kept / 60_000 == pytest.approx(keep[0], rel=0.1) and keep[1] == 1


@given(st.lists(st.integers(1, 50), min_size=2, max_size=30))
def test_huffman_paths_are_a_prefix_code_of_least_length(counts):
    nodes, turns, start = huffman(np.array(counts))
    codes = ["".join(map(str, turns[a:b])) for a, b in zip(start, start[1:])]
    assert not any(a != b and b.startswith(a) for a in codes for b in codes) and len(set(codes)) == len(codes)
    assert sum(2.0 ** -len(c) for c in codes) == 1 and nodes.max() <= len(counts) - 2
    merged, cost = sorted(counts), 0
    while len(merged) > 1:  # the sum of all inner weights is the least possible
        cost += merged[0] + merged[1]
        merged = sorted([merged[0] + merged[1], *merged[2:]])
    assert sum(n * len(c) for n, c in zip(counts, codes)) == cost


# ---------------------------------------------------------------- training


def test_one_thread_repeats_and_resumes_bit_for_bit():
    def fresh(**options):
        return WordTraining(words_of(RHYME, 1), dim=5, epochs=3, **options)

    whole = fresh()
    list(whole)
    first = fresh()
    next(iter(first))
    second = fresh()
    second.restore("here", {name: a.copy() for name, a in first.state().items()})
    list(second)
    assert second.losses == whole.losses
    for name in "WC":
        assert np.array_equal(second.arrays[name], whole.arrays[name])
    assert not np.array_equal(whole.arrays["W"], (lambda t: (list(t), t.arrays["W"])[1])(fresh(seed=2)))


def test_two_threads_learn_the_same():
    text = Text("long", RHYME.content * 60)
    one, two = (WordTraining(words_of(text, 1), dim=5, epochs=3, sample=0.0, threads=n) for n in (1, 2))
    list(one), list(two)
    assert two.losses[-1] == pytest.approx(one.losses[-1], rel=0.05) and two.losses[-1] < two.losses[0]


def test_a_loss_that_grows_beyond_numbers_is_named():
    with pytest.raises(ValueError, match="smaller --lr"), np.errstate(all="ignore"):
        list(WordTraining(words_of(RHYME, 1), dim=5, epochs=300, lr=1e30))


def test_held_out_words_are_not_trained_on():
    parts = words_of(RHYME, 1, held_out=0.25)
    whole = words_of(RHYME, 1)
    assert len(parts.tokens) + len(parts.held_out) == len(whole.tokens)
    assert parts.counts.sum() == (parts.tokens >= 2).sum()
    training = WordTraining(parts, dim=5, epochs=3, lr=0.1)
    before = training.held_out_loss()
    W = training.arrays["W"].copy()
    assert training.held_out_loss() == before and np.array_equal(W, training.arrays["W"])
    list(training)
    assert training.held_out_loss() < before
