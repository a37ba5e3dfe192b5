"""Training on words: what is said, what is saved, how it goes on, and what is refused."""

import json
import math
import shlex
from pathlib import Path

import pytest
from cli_cases import TINY, fails, folder_fixture, run, snapshot  # noqa: F401

from minigrad import nn
from minigrad.errors import UserError
from minigrad.models import CharVocabulary, LanguageConfig, LanguageModel, WordVocabulary
from minigrad.models.lm.cells import CELLS
from minigrad.models.lm.run import Corpus, LanguageRun, TextPace
from minigrad.models.lm.score import log_probabilities
from minigrad.models.recipe import WindowRecipe
from minigrad.models.text import read_text
from minigrad.models.vocabulary import VocabularyConfig

WORDS = ["lm", "train", "--text", "text.txt", "--level", "word", "--tokens", "spaces", *TINY, "--out", "w.safetensors"]


def records():
    return [json.loads(line) for line in Path("w.metrics.jsonl").read_text().splitlines()]


def test_words_with_a_text_of_their_own_to_validate(folder):
    Path("valid.txt").write_text("the cow sat on the mat,\n" * 4)
    result = run(*WORDS, "--vocab-size", 8, "--steps", 10, "--validations", 2, "--validation", "valid.txt")
    said = result.stderr
    assert "text.txt: 390 words to train on, 8 in the vocabulary; 10 steps" in said
    assert "to validate: 28 words, 12 of them unknown (42.9%)" in said
    assert "nats a word" in said and "words/s" in said and "perplexity" in said and "char" not in said
    first, last = records()
    assert first["words_per_second"] > 0 and last["unknown"] == 12
    model = LanguageModel.load("w.safetensors")
    assert model.vocabulary.words == ("<UNK>", "<EOS>", "the", "and", "cat", "cat.", "dog", "mat,")
    ids = model.vocabulary.encode(Path("valid.txt").read_text())
    assert last["validation_loss"] == pytest.approx(model.evaluate(ids), rel=1e-6)
    assert f"perplexity {math.exp(last['validation_loss']):.2f}" in said


def test_words_of_the_last_tenth_are_unknown_if_they_come_only_there(folder):
    Path("text.txt").write_text("to be or not to be.\n" * 30 + "question\n" * 4)
    said = run(*WORDS, "--steps", 2, "--validations", 0).stderr
    assert set(LanguageModel.load("w.safetensors").vocabulary.words[2:]) == {"to", "be", "or", "not", "be."}
    assert " 4 of them unknown" in said


def test_rare_characters_become_unknown_if_asked(folder):
    Path("text.txt").write_text("abba " * 50 + "Z" + "abba " * 5 + "Q")
    said = run(
        "lm", "train", "--text", "text.txt", *TINY, "--steps", 2, "--min-count", 2, "--out", "c.safetensors"
    ).stderr
    assert "2 of them unknown" in said and "nats a character" in said
    v = LanguageModel.load("c.safetensors").vocabulary
    assert [v.token(i) for i in v.encode("aZ")] == ["a", "<UNK>"]


def new(steps, out, reset=3):
    """A run of words as the command makes it."""
    corpus = Corpus(read_text("text.txt"), read_text("valid.txt"))
    recipe, config = WindowRecipe(batch=3, window=7, steps=steps, reset=reset), LanguageConfig(hidden=12, embedding=6)
    return LanguageRun.new(corpus, config, recipe, Path(out), TextPace(validations=0), VocabularyConfig(level="word"))


def test_a_stopped_run_of_words_goes_on_as_if_it_had_not(folder):
    Path("valid.txt").write_text("the dog sat.\n" * 9)
    corpus = Corpus(read_text("text.txt"), read_text("valid.txt"))
    part, whole = new(12, "w.safetensors"), new(12, "whole.safetensors")
    for _, _ in zip(range(5), part.trainer):
        pass
    part.save()
    step = nn.read("w.safetensors")[1]["training"]["step"]
    assert 5 <= step < 12
    pace = TextPace(validations=0)
    assert LanguageRun.resume(Path("w.safetensors"), corpus, {"level": "word"}, None, pace).run([]) == 0
    whole.run([])
    assert Path("w.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    before = snapshot(folder)
    resume = ["lm", "train", "--resume", "w.safetensors", "--text", "text.txt"]
    for more, said in (
        ([], "--validation none"),
        (["--validation", "text.txt"], "pass it with --validation"),
        (["--validation", "valid.txt", "--level", "char"], "keeps its settings"),
        (["--validation", "valid.txt", "--vocab-size", "9"], "--vocab-size 9"),
        (["--validation", "valid.txt", "--tokens", "spaces"], "keeps its settings"),
        (["--validation", "valid.txt", "--lower"], "keeps its settings"),
    ):
        assert said in fails(*resume, *more)
    assert snapshot(folder) == before
    run(*resume, "--validation", "valid.txt", "--steps", 13)
    Path("valid.txt").write_text("another\n")
    assert "'valid.txt' of 8 characters" in fails(*resume, "--validation", "valid.txt")


def test_what_is_said_at_an_interrupt_names_both_files(folder, monkeypatch):
    Path("a file.txt").write_text("the dog sat.\n" * 9)
    stopped = lambda run, bar: [2]
    monkeypatch.setattr(LanguageRun, "train", stopped)
    said = run(*WORDS, "--validation", "a file.txt", "--steps", 9, code=130).stderr
    arguments = shlex.split(said.splitlines()[-1].partition("minigrad ")[2])
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    run(*arguments)


REFUSED = {
    "no words": (b" \n \n" * 100, [], "no words"),
    "words too rare": (None, ["--min-count", "1000"], "none that occurs 1,000 times"),
    "characters too rare": (None, ["--level", "char", "--tokens", "words", "--min-count", "9999"], "no character"),
    "too few words": (b"to be or not to be", [], "words to train on"),
    "one long word": (b"a" * 5000, [], "words"),
    "no word to validate": (b"a " * 100 + b"b" * 500, [], "0 words to validate"),
    "bytes in the middle": (b"to be\n" * 300_000 + b"\xe9\n" + b"or not\n" * 9, [], "byte 0xe9 at 1,800,000"),
    "words of characters": (None, ["--level", "char"], "--level word"),
    "a vocabulary of 2": (None, ["--vocab-size", "2"], "an integer from 3"),
    "no such level": (None, ["--level", "syllable"], "syllable"),
    "no such file": (None, ["--validation", "nowhere.txt"], "nowhere.txt"),
    "an empty file": (None, ["--validation", "empty.txt"], "empty"),
    "a folder": (None, ["--validation", "."], "a folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input(folder, name):
    data, options, said = REFUSED[name]
    Path("empty.txt").touch()
    if data:
        Path("text.txt").write_bytes(data)
    before = snapshot(folder)
    assert said in fails(*WORDS, *options, "--steps", 1)
    assert snapshot(folder) == before


def test_characters_of_the_last_tenth_belong_to_the_vocabulary(folder):
    """Of a file of its own they do not (see test_bad_input): where one text is cut does not matter."""
    Path("one.txt").write_text(Path("text.txt").read_text() + "Ω")
    run("lm", "train", "--text", "one.txt", *TINY, "--steps", 1, "--out", "c.safetensors")
    assert "Ω" in LanguageModel.load("c.safetensors").vocabulary.symbols


@pytest.mark.parametrize("text", ["dog " * 300, "dog\n" * 300, " ".join(["dog"] * 100_000) + "\n\n\n"])
def test_one_word_again_and_again_empty_lines_and_one_long_line_are_learnt(folder, text):
    Path("text.txt").write_text(text)
    run(*WORDS, "--steps", 5, "--validation-chars", 200)
    assert LanguageModel.load("w.safetensors").vocabulary.words == ("<UNK>", "<EOS>", "dog")


@pytest.mark.parametrize("words", [["to", "be", "more"], ["to"], ["to", "to"], ["to", "b e"]])
def test_a_vocabulary_that_does_not_fit_the_model(folder, words):
    model = LanguageModel(LanguageConfig(hidden=8, embedding=4), WordVocabulary(["to", "be"]), generator=0)
    model.save("m.safetensors")
    assert LanguageModel.load("m.safetensors").vocabulary.words == model.vocabulary.words
    tensors, meta = nn.read("m.safetensors")
    meta["vocabulary"]["words"] = words
    nn.write("m.safetensors", tensors, meta)
    with pytest.raises(UserError, match=r"m\.safetensors"):
        LanguageModel.load("m.safetensors")


def test_sentences_are_read_each_by_itself(folder):
    lines = ["the cat sat on the mat", "a dog barked", "the old dog saw the cat on the mat", "a cat saw"]
    held_out = lines * 4
    Path("lines.txt").write_text("\n".join(lines * 40) + "\n")
    Path("valid.txt").write_text("\n".join(held_out) + "\n")
    sizes = ["--hidden", "16", "--embedding", "8", "--batch", "6", "--warmup", "0", "--lr", "0.02"]
    words = ["--validation", "valid.txt", "--level", "word", "--tokens", "spaces", "--sentences", "--window", "30"]
    result = run("lm", "train", "--text", "lines.txt", *sizes, *words, "--epochs", "8", "--out", "s.safetensors")
    assert "validation sentence by sentence" in result.stderr
    model = LanguageModel.load("s.safetensors")
    nats = json.loads(Path("s.metrics.jsonl").read_text().splitlines()[-1])["validation_loss"]
    count = sum(len(line.split()) + 1 for line in held_out)
    logp = log_probabilities(model, held_out, end=True)
    alone, first = [float(p.sum()) for p in logp], float(logp[0][0])
    assert nats == pytest.approx(-(sum(alone) - first) / (count - 1), rel=1e-5) and nats < 1.0  # the first is given
    shown = json.loads(run("lm", "eval", "s.safetensors", "--text", "valid.txt", "--json").stdout)
    assert shown["nats"] == pytest.approx(nats, rel=1e-6)
    Path("one.txt").write_text("a text without any line end, " * 40)
    assert "line ends" in fails("lm", "train", "--text", "one.txt", "--sentences", "--steps", "2")
    assert "[jitter]" in fails("lm", "train", "--text", "lines.txt", "--sentences", "--jitter", "--steps", "2")


def test_a_model_leaves_the_table_of_cells_as_it_is():
    before = {name: dict(options) for name, (_, options, _) in CELLS.items()}
    for name in CELLS:
        LanguageModel(
            LanguageConfig(cell=name, hidden=4, embedding=4, dropout=0.5), CharVocabulary.of("ab"), generator=0
        )
    assert before == {name: dict(options) for name, (_, options, _) in CELLS.items()}
