"""Subwords by sentencepiece: the line comes back, one text gives one vocabulary, and damage is a clear error."""

import base64
import hashlib
import json
import random
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models.subwords import SubwordVocabulary
from minigrad.models.vocabulary import LineVocabularyConfig, vocabulary_from_json

LINES = ["low lower lowest", "new newer newest", "wide wider widest", "der Bär, la forêt: « où ? » 東京 🎈"] * 3


@cache
def built(kind):
    pytest.importorskip("sentencepiece")
    return SubwordVocabulary.build(LINES, 60, kind)


@pytest.fixture(params=["bpe", "unigram"])
def kind(request):
    return request.param


@pytest.fixture
def v(kind):
    return built(kind)


def again(v):
    return vocabulary_from_json("here", json.loads(json.dumps(v.to_json())))


def test_without_sentencepiece_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    model = b"\n\n"
    damaged = {"kind": "subwords", "lower": False, "model": base64.b64encode(model).decode(),
               "sha256": hashlib.sha256(model).hexdigest()}  # fmt: skip
    for use in (lambda: SubwordVocabulary.build(LINES), lambda: vocabulary_from_json("here", damaged)):
        with pytest.raises(UserError, match=r"^\[subwords\] got no module.*pip install 'minigrad\[subwords\]'$"):
            use()


def test_the_example_of_the_class():
    pytest.importorskip("sentencepiece")
    v = SubwordVocabulary.build(["low lower lowest"] * 3, size=20)
    assert v.split("lowest slow") == ["▁lowest", "▁", "s", "low"] and v.decode(v.encode("lowest slow")) == "lowest slow"


def test_special_symbols(v):
    assert len(v) <= 60 and (v.unknown, v.start, v.end, v.unit) == (0, 1, 1, "subword")
    assert [v.token(i) for i in (0, 1)] == ["<UNK>", "<EOS>"]
    assert v.encode("").tolist() == [] and v.encode("").dtype == np.int32 and v.decode([]) == ""
    assert v.encode("q").tolist()[-1] == 0 and v.decode(v.encode("low q low")) == "low <UNK> low"
    assert 1 not in v.encode("<EOS> </s> <s>") and 0 in v.encode("a▁b")
    assert v.decode(v.encode("low\0 \ud800 \u2581")) == "low<UNK> <UNK> <UNK>"
    special = SubwordVocabulary.build(["<EOS> <UNK> < > / E O S U N K"] * 9, 40)
    assert 1 not in special.encode("<EOS>") and special.decode(special.encode("<EOS> <UNK>")) == "<EOS> <UNK>"


@given(words=st.lists(st.text(alphabet=sorted(set("".join(LINES)) - {" "}), max_size=12), max_size=12),
       space=st.sampled_from([" ", "  ", "\u3000", "\t"]))  # fmt: skip
def test_a_line_comes_back(words, space):
    line = space.join(words)
    for v in map(built, ("bpe", "unigram")):
        ids = v.encode(line)
        assert v.decode(ids) == " ".join(line.split()) and 0 not in ids
        assert v.split(line) == [v.token(i) for i in ids] and v.join(v.split(line)) == v.decode(ids)
        np.testing.assert_array_equal(again(v).encode(line), ids)


@given(text=st.text(alphabet="lowerX▁▅\0\n\u2028\ud800é\u0301京🎈<>", max_size=40))
def test_of_any_text_there_are_as_many_pieces_as_numbers(text):
    for v in map(built, ("bpe", "unigram")):
        assert len(v.split(text)) == len(v.encode(text)) and set(v.encode(text)) <= {0, *range(2, len(v))}


def test_one_text_gives_one_vocabulary_without_a_word(kind, v, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    twin = SubwordVocabulary.build(iter(LINES), 60, kind)
    assert twin.model == v.model and twin.to_json() == v.to_json()
    assert capfd.readouterr() == ("", "") and not [*tmp_path.iterdir()]


def test_a_text_too_small_for_so_many_gives_fewer_and_too_few_are_an_error(kind, v):
    small = SubwordVocabulary.build(["to be or not to be"], 10_000, kind)
    assert 9 <= len(small) < 60 and small.decode(small.encode("to be or")) == "to be or"
    with pytest.raises(UserError, match="6 different characters for 8 subwords, expected 9 subwords at least"):
        SubwordVocabulary.build(["to be or not to be"], 8, kind)
    assert len(SubwordVocabulary.build(["to be or not to be"], 9, kind)) == 9
    for lines in ([], ["", "  "], ["\0\u2581"]):
        with pytest.raises(UserError, match="no words"):
            SubwordVocabulary.build(lines, 100, kind)
    with pytest.raises(UserError, match="no character that occurs 5 times"):
        SubwordVocabulary.build(["abc"], 100, kind, minimum=5)
    with pytest.raises(UserError, match="bpe or unigram"):
        SubwordVocabulary.build(LINES, 100, "morphemes")


def test_options():
    pytest.importorskip("sentencepiece")
    lower = again(SubwordVocabulary.build(["The THE the"] * 3, 20, lower=True))
    assert lower.decode(lower.encode("THE the")) == "the the"
    common = SubwordVocabulary.build(["aab aabx"] * 2, 20, minimum=3)
    assert common.decode(common.encode("aabx ab")) == "aab<UNK> ab"
    assert LineVocabularyConfig(level="subword", vocab_size=60).build(LINES).model == built("bpe").model


def test_long_lines_are_learned_from_and_read(v):
    long = SubwordVocabulary.build(["lower " * 50_000, "newer"], 40)
    assert "▁lower" in [long.token(i) for i in range(len(long))]
    assert len(v.encode("low " * 5000)) == 5000 * len(v.encode("low"))
    assert v.decode(v.encode("l" * 20_000)) == "l" * 20_000


# ------------------------------------------------------------------------------------------------ files


def test_damage_is_a_clear_error(v):
    good = v.to_json()
    other = hashlib.sha256(b"abc").hexdigest()
    for change in (
        {"model": None}, {"model": 3}, {"model": "?"}, {"model": good["model"][:-8]}, {"lower": 1}, {"sha256": None},
        {"model": "YWJj"}, {"model": "YWJj", "sha256": other}, {"model": "", "sha256": hashlib.sha256().hexdigest()},
        {"model": "é"},
    ):  # fmt: skip
        with pytest.raises(UserError, match=r"^\[m.safetensors\] got a damaged vocabulary.*<UNK> 0 and <EOS> 1$"):
            vocabulary_from_json("m.safetensors", {**good, **change})


def test_a_model_of_sentencepiece_with_other_ids(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_prefix=str(tmp_path / "m"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    with pytest.raises(ValueError, match="special symbols"):
        SubwordVocabulary(Path(tmp_path / "m.model").read_bytes())


def test_no_model_however_damaged_ends_the_process(v):
    rng = random.Random(0)
    for i in range(300):
        data = bytearray(v.model)
        for _ in range(rng.choice([1, 2, 8])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        data = bytes(data[: rng.randrange(len(data)) if i % 3 == 0 else None])
        with_digest = {"model": base64.b64encode(data).decode(), "sha256": hashlib.sha256(data).hexdigest()}
        with suppress(UserError):
            vocabulary_from_json("here", {**v.to_json(), **with_digest}).encode("lower q")
