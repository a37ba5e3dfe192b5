"""fastText's n-grams and hash, and the vectors made of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models.embed.subwords import NGrams, Subwords

BY_GENSIM = {  # gensim 4.4: ft_ngram_hashes(word, 3, 6, 2_000_000)
    "to": [818294, 1520984, 1798126],
    "über": [1793082, 1664269, 716781, 820905, 255527, 904527, 1599331, 485366, 900056, 742840],
    "naïve": [
        1806890,
        1907692,
        878190,
        933201,
        1590546,
        1719404,
        832043,
        156687,
        356832,
        1223007,
        1505331,
        1711570,
        1788548,
        1088654,
    ],
    "中文": [759167, 1688531, 1876513],
    "👩\u200d👧": [770085, 1421308, 12134, 1524570, 286316, 521315],
    "1,5": [867478, 1493785, 580965, 1240767, 1005715, 975212],
    "a": [1087600],
}


def by_definition(word, low, high, buckets):
    """computeSubwords of fastText, word by word."""
    if word == "</s>" or not buckets:
        return []
    text, found = f"<{word}>", []
    for i in range(len(text)):
        for n in range(max(low, 1), high + 1):
            gram = text[i : i + n]
            if len(gram) < n or (n == 1 and i in (0, len(text) - 1)):
                continue
            h = 2166136261
            for byte in gram.encode():
                h = ((h ^ (byte - 256 if byte > 127 else byte)) & 0xFFFFFFFF) * 16777619 & 0xFFFFFFFF
            found.append(h % buckets)
    return found


@pytest.mark.parametrize("word", BY_GENSIM)
def test_the_hashes_are_those_of_fasttext(word):
    assert NGrams(3, 6, 2_000_000).ids(word).tolist() == BY_GENSIM[word]


words = st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.just("</s>")


@given(st.lists(words, max_size=4), st.integers(0, 4), st.integers(0, 7), st.sampled_from([0, 1, 7, 2**31 - 1]))
def test_a_table_is_the_definition_word_by_word(some, low, high, buckets):
    offsets, ids = NGrams(low, high, buckets).table(some)
    assert offsets.dtype == np.int64 and ids.dtype == np.int32 and len(offsets) == len(some) + 1
    for i, word in enumerate(some):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == by_definition(word, low, high, buckets)


@given(words, st.integers(1, 3), st.integers(1, 5))
def test_a_vector_is_the_mean_of_its_rows(word, low, high):
    rows = np.random.default_rng(3).normal(size=(2 + 11, 4)).astype(np.float32)
    s = Subwords(rows, {word: 0, word + "!": 1}, low, high, 11)
    for asked, own in ((word, [0]), (word + "!", [1]), (word + "?", [])):
        use = own + [2 + k for k in by_definition(asked, low, high, 11)]
        mean = rows[use].mean(0) if use else np.zeros(4)
        np.testing.assert_allclose(s.vector(asked), mean, rtol=1e-5, atol=1e-6)


def test_what_makes_no_sense_is_refused():
    for bad in ((-1, 3, 5), (1, -1, 5), (1, 3, -5), (1, 3, 2**31)):
        with pytest.raises(UserError, match="n-grams"):
            NGrams(*bad)
    with pytest.raises(UserError, match=r"\(1 words \+ 5 buckets, D\)"):
        Subwords(np.zeros((5, 2), np.float32), ["a"], buckets=5)
