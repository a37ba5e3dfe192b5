"""Windows of streams, of one length and of many, and buckets of sentences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_cases import make

import minigrad as mg
from minigrad.errors import UserError
from minigrad.models.batches import Buckets, Windows, columns, sentence_edges


def test_windows_cover_each_stream_in_order():
    ids = np.arange(3 * 10 + 5)
    windows = Windows(ids, batch=3, window=4, reset=0)
    assert windows.per_epoch == 2
    seen = [windows(step) for step in range(5)]
    assert [fresh.tolist() for _, fresh in seen] == [[k % 2 == 0] * 3 for k in range(5)]
    for (inputs, targets), _ in seen:
        np.testing.assert_array_equal(targets, inputs + 1)
    np.testing.assert_array_equal(np.concatenate([seen[0][0][0], seen[1][0][0]])[:, 1], np.arange(11, 19))
    inputs, targets = columns(ids, 1)
    assert inputs.shape == targets.shape == (34, 1)


def test_streams_begin_anew_by_turns():
    windows = Windows(np.arange(4 * 40 + 1), batch=4, window=4, reset=5)
    fresh = np.array([windows(step)[1] for step in range(20)])  # (steps, B): two epochs of ten
    assert fresh[0].all() and fresh[10].all() and not fresh[1:10].all(-1).any()
    for b in range(4):
        assert np.diff(np.flatnonzero(fresh[1:10, b])).tolist() in ([], [5])
    model = make()
    state = tuple(mg.tensor(np.ones((1, 4, 12), np.float32)) for _ in "hc")
    h, c = model.reset(state, fresh[1])
    np.testing.assert_array_equal(h.numpy()[0, :, 0], ~fresh[1])
    np.testing.assert_array_equal(h.numpy(), c.numpy())


@given(n=st.integers(2, 3000), batch=st.integers(1, 5), window=st.integers(1, 90), seed=st.integers(0, 9))
def test_windows_of_many_lengths_cover_each_stream_once_an_epoch(n, batch, window, seed):
    if n <= batch * window:
        return
    ids, steps = np.arange(n), range(10_000)
    windows = Windows(ids, batch, window, 3, varied=seed)
    for epoch in (0, 1):
        found = [windows(epoch * windows.per_epoch + k)[0] for k in steps[: windows.per_epoch]]
        assert all(len(inputs) for inputs, _ in found)
        for part, whole in zip(zip(*found), columns(ids, batch)):
            np.testing.assert_array_equal(np.concatenate(part), whole)
    other = Windows(ids, batch, window, 3, varied=seed)  # a step is a function of its number alone
    for step in (windows.per_epoch, 0, 2 * windows.per_epoch - 1):
        np.testing.assert_array_equal(other(step)[0][0], windows(step)[0][0])


def test_lengths_of_windows_are_those_of_the_paper():
    windows = Windows(np.arange(700_000), 1, 70, 0, varied=1)
    lengths = np.array([len(windows(step)[0][0]) for step in range(windows.per_epoch)])
    assert (lengths < 52).mean() == pytest.approx(0.05, abs=0.01)
    assert lengths[lengths > 52].mean() == pytest.approx(70, abs=0.7)
    assert lengths[lengths > 52].std() == pytest.approx(5, abs=0.3) and lengths.min() >= 5
    again = [len(windows(step)[0][0]) for step in range(windows.per_epoch, windows.per_epoch + 50)]
    assert again != lengths[:50].tolist()


def test_too_little_to_train_on():
    with pytest.raises(UserError, match=r"only 8 words to train on.*more than batch x window = 8.*longer text"):
        Windows(np.arange(8), 2, 4, 0, unit="word")


# ------------------------------------------------------------------------------------------------ sentences

SENTENCES = st.lists(st.lists(st.integers(2, 9), max_size=12), min_size=1, max_size=40)


def flat(sentences, end=1):
    return np.array([i for s in sentences for i in [*s, end]], np.int32)


@given(sentences=SENTENCES, last=st.booleans())
def test_sentences_end_behind_the_end(sentences, last):
    ids = flat(sentences)[: len(flat(sentences)) - (not last)]
    edges = sentence_edges(ids, end=1)
    expected = [[*s, 1] for s in sentences]
    if not last:
        expected[-1].pop()
    assert [ids[a:b].tolist() for a, b in zip(edges, edges[1:])] == [s for s in expected if s]


@given(sentences=SENTENCES, batch=st.integers(1, 9), seed=st.integers(0, 5),
       longest=st.none() | st.integers(1, 6))  # fmt: skip
def test_every_sentence_comes_once_an_epoch(sentences, batch, seed, longest):
    ids = flat(sentences)
    buckets = Buckets(ids, sentence_edges(ids, end=1), batch, seed, longest=longest, pad=-7)
    expected = sorted(
        s[i : i + (longest or 99)] for s in ([*s, 1] for s in sentences) for i in range(0, len(s), longest or 99)
    )
    for epoch in (0, 1):
        found, places = [], 0
        for k in range(buckets.per_epoch):
            (block, lengths), fresh = buckets(epoch * buckets.per_epoch + k)
            assert block.shape == (lengths.max(), batch) and fresh.all()
            assert ((block == -7) == (np.arange(len(block))[:, None] >= lengths)).all()
            found += [block[:n, b].tolist() for b, n in enumerate(lengths) if n]
            places += block.size
        assert sorted(found) == expected
        assert buckets.padding == pytest.approx(1 - len(ids) / places)
    other = Buckets(ids, sentence_edges(ids, end=1), batch, seed, longest=longest, pad=-7)
    step = 2 * buckets.per_epoch - 1
    np.testing.assert_array_equal(other(step)[0][0], buckets(step)[0][0])


def test_sentences_of_one_length_meet_others_in_every_epoch():
    rng = np.random.default_rng(0)
    ids = flat([rng.integers(2, 9, n) for n in rng.integers(1, 40, 1000)])
    buckets = Buckets(ids, sentence_edges(ids, end=1), 20, seed=3)
    assert buckets.padding < 0.02
    first, second = ([buckets(e * buckets.per_epoch + k)[0] for k in range(buckets.per_epoch)] for e in (0, 1))
    assert [n.max() for _, n in first] != [n.max() for _, n in second] != sorted(n.max() for _, n in second)
    assert {b.tobytes() for b, _ in first}.isdisjoint(b.tobytes() for b, _ in second)


def test_a_sentence_of_100000_symbols_and_none():
    ids = flat([[2] * 99_999, [3], [4, 5]])
    edges = sentence_edges(ids, end=1)
    assert max(Buckets(ids, edges, 2, 0)(k)[0][0].shape[0] for k in (0, 1)) == 100_000
    cut = Buckets(ids, edges, 32, 0, longest=50)
    assert cut.per_epoch == 63 and max(cut(k)[0][0].shape[0] for k in range(63)) == 50 and cut.padding < 0.01
    for none in ([], [0], [0, 0]):
        with pytest.raises(UserError, match="none, or only empty"):
            Buckets(np.zeros(0, int), np.array(none, int), 2, 0)
