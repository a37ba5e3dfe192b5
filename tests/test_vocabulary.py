"""Vocabularies: what a word is, which words are known, and the way back."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models import CharVocabulary, WordVocabulary
from minigrad.models.joiners import ESCAPED, JOINER, detokenise, tokenise
from minigrad.models.vocabulary import (
    TOKENISERS,
    LineVocabularyConfig,
    VocabularyConfig,
    vocabulary_from_json,
    whole_words,
)

TEXTS = st.text(alphabet='abcAé京🎈 \t\n\n.,!"\u2019-_1\u2028', max_size=60)
LINES = st.lists(st.lists(st.sampled_from(["the", "cat", "a", "<unk>", "N", "$", "Ünder"]), max_size=6), max_size=8)


def again(v):
    return vocabulary_from_json("here", json.loads(json.dumps(v.to_json())))


def tokens(v, text):
    return [v.token(i) for i in v.encode(text)]


# ------------------------------------------------------------------------------------------------ characters


def test_a_vocabulary_is_a_bijection_and_survives_json():
    v = CharVocabulary.of("naïve 東京 🎈\n")
    assert v.decode(v.encode("🎈 東京")) == "🎈 東京"
    assert again(v).symbols == v.symbols and again(v).unknown is None
    assert v.symbols[v.start] == "\n" and v.end == v.start
    assert CharVocabulary.of("ab").end is None


@pytest.mark.parametrize(
    ("text", "named"), [("abXc", "'X' (U+0058) at position 2"), ("\udc80", "U+DC80"), ("ab€", "'€'")]
)
def test_an_unknown_character_is_named(text, named):
    with pytest.raises(UserError, match=r"expected one of the 3 characters") as error:
        CharVocabulary.of("abc").encode(text)
    assert named in str(error.value)


@given(text=TEXTS.filter(bool), minimum=st.integers(1, 4), other=TEXTS, data=st.data())
def test_characters_are_those_that_are_frequent(text, minimum, other, data):
    known = sorted(c for c, n in Counter(text).items() if n >= minimum)
    cut = data.draw(st.integers(0, len(text)))
    if not known:
        with pytest.raises(UserError, match=f"no character that occurs {minimum} times"):
            CharVocabulary.of(text, minimum)
        return
    for v in (CharVocabulary.of(text, minimum), CharVocabulary.build([text[:cut], text[cut:]], minimum)):
        assert v.symbols == "".join(known) and len(v) == len(known) + (minimum > 1)
        if minimum > 1:
            assert tokens(again(v), other) == [c if c in known else "<UNK>" for c in other]
            assert v.decode(v.encode(other)) == "".join(c if c in known else "\ufffd" for c in other)
        elif not set(other) <= set(known):
            with pytest.raises(UserError, match="expected one of the"):
                v.encode(other)


# ------------------------------------------------------------------------------------------------ what a word is

PROSE = {
    "He didn't stop.": "He didn't stop .",
    "It was well-known -- (so they\u2019d say) -- and 3.14, 1,000.5 or 7th.":
        "It was well-known - - ( so they\u2019d say ) - - and 3.14 , 1,000.5 or 7th .",
    "One. Two! Three? four": "One . <EOS> Two ! <EOS> Three ? <EOS> four",
    '"Stop!" he said. ("Why?") (\'No.\') Go.\n': '" Stop ! " <EOS> he said . <EOS> ( " Why ? " ) <EOS> '
                                                 "( ' No . ' ) <EOS> Go . <EOS>",
    "Mr. Fox met Mrs. Hare and DR. Bear. St. Ives": "Mr. Fox met Mrs. Hare and DR. Bear . <EOS> St. Ives",
    "all in one\nsentence\twrapped": "all in one sentence wrapped",
    "CHAPTER I\n\n\n \nOnce there was": "CHAPTER I <EOS> Once there was",
    "The end.  \n\n\nThe next": "The end . <EOS> The next",
    "\n\n  first": "first",
    "a.b e.g. x": "a . b e . g . <EOS> x",
    "_emphasis_ snake_case": "_ emphasis _ snake _ case",
    "Straße 東京 naïve": "Straße 東京 naïve",
    "": "",
    " \n\n ": "",
}  # fmt: skip


@pytest.mark.parametrize("text", PROSE)
def test_words_of_prose(text):
    v = WordVocabulary.of(" ".join(PROSE) + " x")
    assert tokens(v, text) == PROSE[text].split()


@given(text=TEXTS)
def test_prose_loses_no_letter_and_has_no_empty_sentence(text):
    found = TOKENISERS["words"](text)
    assert "".join(t for t in found if not t.isspace()) == "".join(text.split())
    assert not any(a.isspace() and b.isspace() for a, b in zip(found, found[1:])) and not (found and found[0].isspace())


@given(lines=LINES, ending=st.sampled_from(["", "\n"]))
def test_lines_of_words_are_sentences_and_come_back(lines, ending):
    text = "\n".join(" ".join(line) for line in lines) + ending
    v = WordVocabulary.of(text + " x", tokens="spaces")
    expected = [w for line in lines for w in [*line, "<EOS>"]][: None if ending or not lines else -1]
    if not lines:
        expected = ["<EOS>"] * len(ending)
    assert tokens(v, text) == [w.replace("<unk>", "<UNK>") for w in expected]
    assert tokens(v, v.decode(v.encode(text))) == tokens(v, text)


@given(text=TEXTS, cuts=st.lists(st.integers(0, 60), max_size=6), kind=st.sampled_from(sorted(TOKENISERS)))
def test_blocks_give_the_words_of_the_whole(text, cuts, kind):
    edges = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    blocks = [text[a:b] for a, b in zip(edges, edges[1:])]
    pieces = list(whole_words(blocks))
    assert "".join(pieces) == text
    assert [t for piece in pieces for t in TOKENISERS[kind](piece)] == TOKENISERS[kind](text)
    if text.split():
        v, w = WordVocabulary.of(f"{text} x", tokens=kind), WordVocabulary.build([*blocks, " x"], tokens=kind)
        assert v.words == w.words


# ------------------------------------------------------------------------------------------------ words of lines

JOINED = {
    "don't go.": "don *'* t go *.",
    'He said: "No!" (twice)': 'He said *: "* No *! *" (* twice *)',
    "Où ça ?  -- là-bas...": "Où ça ? - *- là *-* bas *. *. *.",
    " 3.50 € 2nd x_y": "3 *.* 50 € 2nd x *_* y",
    "<UNK> a\nb": "<* UNK *> a b",
    "नमस्ते e\u0301te\u0301 \u0301": "नमस्ते e\u0301te\u0301 \u0301",  # combining marks are of the word
    "x* * y": "x *<J> <J> y",
    "": "",
}  # fmt: skip


@pytest.mark.parametrize("line", JOINED)
def test_marks_of_lines_carry_joiners(line):
    expected = JOINED[line].replace("*", JOINER).replace("<J>", ESCAPED)
    assert tokenise(line.replace("*", JOINER)) == expected.split()


@given(
    text=st.text(alphabet=f"abcAé京🎈 \t\n.'\"<>U+FD-_1\u2028\u0301\u200d{JOINER}▁\\", max_size=40), lower=st.booleans()
)
def test_a_line_of_known_words_comes_back(text, lower):
    words = tokenise(text)
    assert detokenise(words) == " ".join(text.split()) and all(words)
    v = again(WordVocabulary.of(f"{text} x", tokens="lines", lower=lower))
    line = " ".join((text.lower() if lower else text).split())
    ids = v.encode(text)
    assert v.decode(ids) == line and not {v.unknown, v.end} & {*ids.tolist()}
    assert v.split(text) == [v.token(i) for i in ids] and v.join(v.split(text)) == line


def test_lines_with_words_never_seen_and_odd_orders_of_symbols():
    v = WordVocabulary.of("don't (go).", tokens="lines")
    assert v.decode(v.encode("don't (stop).")) == "don't (<UNK>)." and v.decode([v.encode("x (y)")[1]]) == "("
    mark = v.encode("a'b")[1]
    assert v.decode([mark, mark]) == "''" and v.decode([mark]) == "'" and v.decode([]) == ""
    assert v.encode("\ud800").tolist() == [0] and v.encode("don't " * 5000).shape == (15_000,)
    assert v.decode([*v.encode("go"), v.end, *v.encode("don")]) == "go\ndon"


def test_vocabularies_of_lines():
    lines = ["Go on!", "Go.", "go"]
    v = LineVocabularyConfig().build(lines)
    assert {*v.words[2:]} == {"Go", "on", "go", f"{JOINER}!", f"{JOINER}."} and v.unit == LineVocabularyConfig().unit
    assert len(LineVocabularyConfig(lower=True, min_count=2).build(lines)) == 3
    assert len(LineVocabularyConfig(vocab_size=4).build(iter(lines))) == 4
    v = again(LineVocabularyConfig(level="char").build(lines))
    assert v.symbols == "\n !.Ggno" and (v.unknown, v.start, v.end, len(v)) == (8, 0, 0, 9)
    assert v.decode(v.encode("Gog?")) == "Gog\ufffd" and v.join(v.split("Go!")) == "Go!"
    v = again(LineVocabularyConfig(level="char", min_count=2).build(lines))
    assert v.symbols == "\nGo" and v.unknown == 3
    for options in ({"lower": True}, {"vocab_size": 9}):
        with pytest.raises(UserError, match="with characters, expected words or subwords"):
            LineVocabularyConfig(level="char", **options)
    for level in ("char", "word"):
        with pytest.raises(UserError, match="no words|no character"):
            LineVocabularyConfig(level=level, min_count=2).build([])


def test_words_of_lines_are_no_choice_for_one_long_text():
    with pytest.raises(UserError, match="expected one of words, spaces"):
        VocabularyConfig(level="word", tokens="lines")


# ------------------------------------------------------------------------------------------------ which words are known


@given(words=st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=40), size=st.integers(3, 9),
       minimum=st.integers(1, 4))  # fmt: skip
def test_the_most_frequent_words_are_known(words, size, minimum):
    counts = Counter(words)
    expected = sorted((w for w in counts if counts[w] >= minimum), key=lambda w: (-counts[w], w))[: size - 2]
    if not expected:
        with pytest.raises(UserError, match=f"none that occurs {minimum} times"):
            WordVocabulary.of(" ".join(words), size, minimum)
        return
    v = again(WordVocabulary.of(" ".join(words), size, minimum))
    assert v.words == ("<UNK>", "<EOS>", *expected) and len(v) <= size
    assert (v.unknown, v.start, v.end, v.unit) == (0, 1, 1, "word")
    assert tokens(v, " ".join(words)) == [w if w in expected else "<UNK>" for w in words]


def test_capital_letters_are_read_as_small_ones_if_asked():
    v = again(WordVocabulary.of("The the THE Cat\n", tokens="spaces", lower=True))
    assert v.words[2:] == ("the", "cat") and tokens(v, "THE <UNK> <EOS> CAT") == ["the", "<UNK>", "<EOS>", "cat"]


def test_words_never_seen_empty_texts_and_a_sentence_of_100000_words():
    v = WordVocabulary.of("to be or not to be")
    assert tokens(v, "Ωmega \udc80 been") == ["<UNK>"] * 3
    assert v.encode("").shape == (0,) and v.decode([]) == ""
    ids = v.encode("to be " * 50_000 + "\n")
    assert ids.shape == (100_000,) and v.decode(ids).split() == ["to", "be"] * 50_000
    assert v.encode("x" * 1_000_000).tolist() == [0] and v.encode(" " * 1_000_000).tolist() == []


@pytest.mark.parametrize("text", ["", " \n\n", "<unk> <UNK>\n<eos>"])
def test_a_text_without_words(text):
    with pytest.raises(UserError, match="no words"):
        WordVocabulary.of(text, tokens="spaces")


# ------------------------------------------------------------------------------------------------ files

GOOD = WordVocabulary(["the", "cat"]).to_json()
BAD = {
    "nothing": None, "a list": [1], "another kind": {**GOOD, "kind": "syllables"}, "a kind that is a list":
    {**GOOD, "kind": ["words"]}, "characters without symbols": {**GOOD, "kind": "characters"},
    "no words": {**GOOD, "words": []}, "words of numbers": {**GOOD, "words": [1, 2]}, "one text": {**GOOD, "words":
    "a"},
    "a word twice": {**GOOD, "words": ["a", "a"]}, "a special word": {**GOOD, "words": ["<EOS>"]},
    "an empty word": {**GOOD, "words": ["a", ""]}, "two words in one": {**GOOD, "words": ["a b"]},
    "half a character": {**GOOD, "words": ["\ud800"]}, "unknown tokens": {**GOOD, "tokens": "bytes"},
    "tokens of a list": {**GOOD, "tokens": []}, "lower of text": {**GOOD, "lower": "no"},
    "characters that fall": {"kind": "characters", "symbols": "ba"}, "one character": {"kind": "characters", "symbols":
    "a"}, "unknown of a number": {"kind": "characters", "symbols": "ab", "unknown": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_damaged_vocabulary_is_a_clear_error(name):
    with pytest.raises(UserError, match=r"\[m.safetensors\] got a .*vocabulary"):
        vocabulary_from_json("m.safetensors", BAD[name])


def test_options_of_words_are_no_options_of_characters():
    assert VocabularyConfig().build(["ab", "ba"]).symbols == "ab"
    assert VocabularyConfig(min_count=3).build(["abb", "b"]).symbols == "b"
    for options in ({"lower": True}, {"vocab_size": 9}, {"tokens": "spaces"}):
        with pytest.raises(UserError, match="--level word"):
            VocabularyConfig(**options)
        assert len(VocabularyConfig(level="word", **options).build(["a b ", "c"])) == 5
    np.testing.assert_array_equal(VocabularyConfig(level="word").build(["x. "]).encode("x. x"), [3, 2, 1, 3])
