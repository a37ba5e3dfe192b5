"""Scores: many texts at once equal each alone, tables are the distribution, pairs are read and judged."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decode_cases import log_p, words
from hypothesis import given
from hypothesis import strategies as st
from lm_cases import SMALL, TEXT, make

from minigrad.errors import UserError
from minigrad.models.lm import score
from minigrad.models.lm.score import judge, log_probabilities, read_pairs, stream, token_table, unknown

texts = st.lists(st.text("the cats\n", max_size=30), min_size=1, max_size=6)
MODELS = {cell: make(replace(SMALL, cell=cell, layers=2)) for cell in ("lstm", "gru", "rnn")}


@given(texts, st.sampled_from(sorted(MODELS)), st.sampled_from([(1, 1), (2, 7), (3, 1000), (256, 8192)]))
def test_side_by_side_equals_one_by_one(some, cell, sizes):
    model, before = MODELS[cell], (score.ROWS, score.SYMBOLS)
    score.ROWS, score.SYMBOLS = sizes
    try:
        found = log_probabilities(model, some)
    finally:
        score.ROWS, score.SYMBOLS = before
    for text, logp in zip(some, found, strict=True):
        assert logp.dtype == np.float64 and logp.shape == (len(text),)
        np.testing.assert_allclose(logp, log_p(model, model.vocabulary.encode(text)), rtol=1e-4, atol=1e-5)
        assert model.score(text) == pytest.approx(logp.sum(), rel=1e-4, abs=1e-5)


def test_the_end_is_a_symbol_like_any_other():
    model = words(sharp=20.0)
    one, two = log_probabilities(model, ["the cat", "a"], end=True)
    assert len(one) == 3 and one.sum() == pytest.approx(model.score("the cat\n"), rel=1e-5)
    assert two.sum() == pytest.approx(model.score("a\n"), rel=1e-5)
    total = sum(math.exp(model.score(text)) for text in model.vocabulary.words[2:])
    assert total < 1  # <UNK> and <EOS> have the rest


def test_calls_are_few_and_small(monkeypatch):
    model, calls = make(), []
    nll = model.nll
    monkeypatch.setattr(model, "nll", lambda ids, *rest: (calls.append(ids.shape), nll(ids, *rest))[1])
    long = (TEXT * 25)[:20_000]
    log_probabilities(model, [*[TEXT[:20]] * 300, long])
    assert sum(t * b for t, b in calls) < 1.5 * (300 * 20 + 20_000)
    assert max(t * b for t, b in calls) <= score.SYMBOLS and len(calls) < 12


@pytest.mark.parametrize("end", [False, True])
def test_the_table_is_the_distribution(end):
    for model, text in ((make(), "the cat"), (words(sharp=20.0), "the zebra sat")):
        v, tokens = model.vocabulary, list(token_table(model, text, end=end))
        ids = np.append(v.encode(text), [v.end] if end else []).astype(int)
        logits = model(np.append(v.start, ids[:-1])[:, None])[0].numpy()[:, 0].astype(np.float64)
        logp = logits - np.logaddexp.reduce(logits, -1)[:, None]
        assert sum(t.log_probability for t in tokens) == pytest.approx(
            log_probabilities(model, [text], end=end)[0].sum()
        )
        for token, i, row in zip(tokens, ids, logp, strict=True):
            assert token.token == ("<UNK> zebra" if i == v.unknown else v.token(i))
            assert token.log_probability == pytest.approx(row[i], abs=1e-4)
            order = np.argsort(-row)
            assert order[token.rank - 1] == i
            best = order[0] if order[0] != i else order[1]
            assert token.alternative == v.token(best)
            assert token.alternative_log_probability == pytest.approx(row[best], abs=1e-4)


def test_unknown_words_are_named():
    model = words()
    assert unknown(model.vocabulary, "the zebra saw the zebra , oh") == ["zebra", "zebra", ",", "oh"]
    assert unknown(make().vocabulary, "the cat") == []


def test_one_stream_in_windows():
    model = make()
    ids = model.vocabulary.encode(TEXT[:100])
    whole = -log_p(model, ids)[1:]  # not the same: the stream begins with its first symbol, not with a line end
    for window in (1, 7, 99, 500):
        found = np.concatenate(list(stream(model, ids, window)))
        assert found.mean() == pytest.approx(model.evaluate(ids), rel=1e-5) and found.shape == whole.shape
    side_by_side = np.concatenate(list(stream(model, ids, 7, streams=3)))
    apart = [np.concatenate(list(stream(model, ids[k : k + 34]))) for k in (0, 33, 66)]
    np.testing.assert_allclose(np.sort(side_by_side), np.sort(np.concatenate(apart)), rtol=1e-5)


# ------------------------------------------------------------------------------------------------ pairs


def test_pairs_are_judged_by_their_scores(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("# a comment\n\norder\tthe cat sat\tcat the sat\nagreement\ta dog\ta dogs\n")
    pairs, model = read_pairs(path), words(sharp=20.0)
    assert [pair.kind for pair in pairs] == ["order", "agreement"]
    for one in judge(model, pairs):
        assert one.better == pytest.approx(model.score(one.pair.better), rel=1e-5)
        assert one.worse == pytest.approx(model.score(one.pair.worse), rel=1e-5)
        assert one.right == (one.better > one.worse)


@pytest.mark.parametrize("content", ["# nothing\n", "one\ttwo\n", "a\tb\tc\td\n", "a\t\tc\n", "a\tb\tb\n"])
def test_bad_pairs_are_refused(tmp_path, content):
    path = tmp_path / "pairs.tsv"
    path.write_text(content)
    with pytest.raises(UserError, match=r"pairs\.tsv"):
        read_pairs(path)


def test_the_pairs_at_hand():
    pairs = read_pairs(Path(__file__).parent / "data" / "minimal_pairs.tsv")
    assert len(pairs) >= 40 and {pair.kind for pair in pairs} == {"agreement", "order", "collocation"}
    assert len({pair[1:] for pair in pairs}) == len(pairs)
    for pair in pairs:
        for text in pair[1:]:
            assert text == " ".join(text.split()) == text.lower() and all(c.isalpha() or c == " " for c in text)
