"""What a trained model is for, at the command line: sample, complete, score, eval; and bad input to each."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from cli_cases import TEXT, TINY, fails, folder_fixture, model_fixture, run, snapshot  # noqa: F401
from click.testing import CliRunner
from decode_cases import words
from lm_cases import SMALL

from minigrad.cli import main
from minigrad.models import LanguageModel
from minigrad.models.lm.decode import complete
from minigrad.models.lm.ngram import KneserNey, fit_weight, mixed
from minigrad.models.lm.score import token_table


@pytest.fixture(name="wordy")
def word_model_fixture(folder):
    words(SMALL, sharp=20.0).save("w.safetensors")
    Path("words.txt").write_text("the cat saw a bird .\na zebra sat .\n" * 20)
    return "w.safetensors"


def records(*arguments):
    return [json.loads(line) for line in run(*arguments, "--json").stdout.splitlines()]


# ------------------------------------------------------------------------------------------------ sample and complete


def test_samples_of_words(wordy):
    one = run("lm", "sample", wordy, "--prompt", "the cat ", "--length", 12, "--top-p", 0.9, "--seed", 3).stdout
    assert one.startswith("the cat") and "  " not in one and "<UNK>" not in one
    assert one == run("lm", "sample", wordy, "--prompt", "the cat", "--length", 12, "--top-p", 0.9, "--seed", 3).stdout
    lines = run("lm", "sample", wordy, "--stop", "--count", 4, "--prompt", "a").stdout.splitlines()
    assert len(lines) == 4 and all(line.split()[0] == "a" for line in lines)
    shown = run("lm", "sample", wordy, "--prompt", "zebra", "--length", 1)
    assert shown.stdout.startswith("zebra ") and "read as <UNK>: zebra" in shown.stderr


def test_completions(wordy):
    model = LanguageModel.load(wordy)
    expected = complete(model, "the cat", 4, 6)
    found = records("lm", "complete", wordy, "the cat", "--length", 4, "--beam", 6, "--best", 3)
    assert [one["text"] for one in found] == [one.text for one in expected[:3]]
    assert [one["log_probability"] for one in found] == pytest.approx([one.log_probability for one in expected[:3]])
    shown = run("lm", "complete", wordy, "the cat", "--length", 4).stdout
    assert len(shown.splitlines()) == 6 and expected[0].text.replace("\n", "\\n") in shown


# ------------------------------------------------------------------------------------------------ score


def test_scores_of_characters(model):
    loaded, sentences = LanguageModel.load(model), ["the cat", "a dog sat", "t"]
    for sentence, record in zip(sentences, records("lm", "score", model, *sentences), strict=True):
        total = loaded.score(sentence)
        assert record["text"] == sentence and record["characters"] == len(sentence) and record["unknown"] == []
        assert record["log_probability"] == pytest.approx(total, rel=1e-6)
        assert record["bits"] == pytest.approx(-total / math.log(2))
        assert record["perplexity"] == pytest.approx(math.exp(-total / len(sentence)))
    shown = run("lm", "score", model, "the cat").stdout
    assert f"{loaded.score('the cat'):.3f}" in shown and "the cat" in shown


def test_scores_from_a_file_sorted(wordy):
    loaded = LanguageModel.load(wordy)
    Path("some.txt").write_text("the cat sat\n\na zebra\nsat\n")
    found = records("lm", "score", wordy, "--file", "some.txt", "--sort", "--end")
    totals = {text: loaded.score(text + "\n") for text in ("the cat sat", "a zebra", "sat")}
    assert [one["text"] for one in found] == sorted(totals, key=lambda text: -totals[text])
    assert [one["log_probability"] for one in found] == pytest.approx(sorted(totals.values(), reverse=True), rel=1e-5)
    assert [one["unknown"] for one in found if one["text"] == "a zebra"] == [["zebra"]]
    shown = run("lm", "score", wordy, "--file", "some.txt", "--sort")
    assert "times less likely" in shown.stdout and "read as <UNK>: zebra" in shown.stderr
    assert len(shown.stdout.splitlines()) == 4


def test_sentences_from_the_standard_input(wordy):
    result = CliRunner().invoke(main, ["lm", "score", wordy, "--file", "-", "--json"], input=b"the cat\n")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["text"] == "the cat"
    result = CliRunner().invoke(main, ["lm", "score", wordy, "--file", "-"], input=b"\xff\n")
    assert result.exit_code == 2 and "not UTF-8" in result.stderr


def test_only_a_line_end_ends_a_sentence(wordy):
    data, sentences = "the\u0085cat\u2028sat\r\na\x0cbird\n".encode(), ["the\u0085cat\u2028sat", "a\x0cbird"]
    Path("some.txt").write_bytes(data)
    for file in ("some.txt", "-"):
        result = CliRunner().invoke(main, ["lm", "score", wordy, "--file", file, "--json"], input=data)
        assert [json.loads(line)["text"] for line in result.stdout.split("\n") if line] == sentences


def test_the_table(wordy):
    (record,) = records("lm", "score", wordy, "the zebra sat", "--table")
    expected = list(token_table(LanguageModel.load(wordy), "the zebra sat"))
    for found, token in zip(record["tokens"], expected, strict=True):
        assert found == {**token._asdict(), "probability": math.exp(token.log_probability)}
    shown = run("lm", "score", wordy, "the zebra sat", "--table").stdout
    assert "<UNK> zebra" in shown and "best other" in shown


def test_pairs(wordy):
    pairs = [("order", "the cat sat", "sat cat the"), ("order", "a bird", "bird a"), ("noun", "the dog", "the zebra")]
    Path("pairs.tsv").write_text("".join("\t".join(pair) + "\n" for pair in pairs))
    loaded = LanguageModel.load(wordy)
    right = [loaded.score(better) > loaded.score(worse) for _, better, worse in pairs]
    (found,) = records("lm", "score", wordy, "--pairs", "pairs.tsv")
    assert found["accuracy"] == pytest.approx(np.mean(right)) and found["pairs"] == 3
    assert found["kinds"] == {"order": np.mean(right[:2]), "noun": float(right[2])}
    assert [one["better"] for one in found["wrong"]] == [pair[1] for pair, ok in zip(pairs, right) if not ok]
    shown = run("lm", "score", wordy, "--pairs", "pairs.tsv").stdout
    assert " ".join(shown.split("all")[1].split()[:3]) == f"{sum(right)} of 3"
    assert all((worse in shown) == (not ok) for (_, _, worse), ok in zip(pairs, right))


def test_a_sentence_of_100_000_words(wordy):
    Path("long.txt").write_text("the cat " * 50_000)
    (found,) = records("lm", "score", wordy, "--file", "long.txt")
    assert found["words"] == 100_000 and math.isfinite(found["log_probability"])


# ------------------------------------------------------------------------------------------------ eval


def test_figures_of_words(wordy):
    model = LanguageModel.load(wordy)
    text = Path("words.txt").read_text()
    ids = model.vocabulary.encode(text)
    (found,) = records("lm", "eval", wordy, "--text", "words.txt")
    nats = model.evaluate(ids)
    assert found["words"] == len(ids) - 1 == 20 * 12 - 1 and found["unknown"] == 20
    assert found["nats"] == pytest.approx(nats) and found["perplexity"] == pytest.approx(math.exp(nats))
    assert found["bits_per_word"] == pytest.approx(found["bits"])
    assert found["bits_per_character"] == pytest.approx(found["bits"] * (len(ids) - 1) / len(text))
    assert "20 (8.37%)" in run("lm", "eval", wordy, "--text", "words.txt").stdout


def test_figures_of_characters_by_word(model):
    (found,) = records("lm", "eval", model, "--text", "text.txt")
    assert found["bits_per_character"] == pytest.approx(found["bits"]) and found["unknown"] == 0
    assert found["bits_per_word"] == pytest.approx(found["bits"] * found["characters"] / len(TEXT.split()))


@pytest.mark.parametrize("kind", ["model", "wordy"])
def test_what_the_network_adds_to_n_grams(request, kind):
    file = request.getfixturevalue(kind)
    model, text = LanguageModel.load(file), "text.txt" if kind == "model" else "words.txt"
    v = model.vocabulary
    Path("test.txt").write_text("the cat saw the dog, and sat.\n" * 3 if kind == "model" else "the bird sat .\n" * 20)
    (found,) = records("lm", "eval", file, "--text", "test.txt", "--ngram", text, "--order", 3)
    ids = v.encode(Path("test.txt").read_text())
    grams = KneserNey(v.encode(Path(text).read_text()), len(v), 3).nll(ids)
    logits = model(ids[:-1, None])[0].numpy()[:, 0].astype(np.float64)
    network = (np.logaddexp.reduce(logits, -1)[:, None] - logits)[np.arange(len(ids) - 1), ids[1:]]
    half = len(grams) // 2
    weight = fit_weight(network[:half], grams[:half])
    assert found["nats"] == pytest.approx(network.mean(), rel=1e-5)
    assert found["ngram"]["weight"] == pytest.approx(weight, abs=1e-3)
    assert found["ngram"]["symbols"] == len(grams) - half
    expected = {"ngrams": grams[half:], "network": network[half:], "mixture": mixed(network, grams, weight)[half:]}
    assert found["ngram"]["nats"] == pytest.approx({k: x.mean() for k, x in expected.items()}, rel=1e-4)
    shown = run("lm", "eval", file, "--text", "test.txt", "--ngram", text, "--order", 3).stdout
    assert "3-grams" in shown and "n-grams\n" not in shown.splitlines()[0]


def test_adapting_changes_the_figures_and_not_the_file(model):
    before = Path(model).read_bytes()
    plain, none, learned, cached = (
        records("lm", "eval", model, "--text", "text.txt", *options)[0]["nats"]
        for options in ([], ["--dynamic", 0], ["--dynamic", 0.5, "--decay", 0.01], ["--cache", 100, "--theta", 1])
    )
    assert none == pytest.approx(plain, rel=1e-6) and learned < plain - 0.2 and cached < plain
    scaled = records("lm", "eval", model, "--text", "text.txt", "--dynamic", 0.003, "--gradients", "text.txt")[0][
        "nats"
    ]
    assert scaled < plain - 0.2 and Path(model).read_bytes() == before


# ------------------------------------------------------------------------------------------------ bad input

WRONG = {
    ("score", ""): "empty sentence",
    ("score", "the", " "): "empty sentence",
    ("score",): "--file",
    ("score", "the", "--pairs", "pairs.tsv"): "--pairs",
    ("score", "--file", "nothing.txt"): "No such file",
    ("score", "--file", "empty.txt"): "empty",
    ("score", "--file", "blank.txt"): "no line",
    ("score", "--pairs", "text.txt"): "line 1 ",
    ("score", "--pairs", "nothing.tsv"): "No such file",
    ("sample", "--prompt", ""): "prompt",
    ("sample", "--prompt", " "): "prompt",
    ("sample", "--temperature", "nan"): "temperature",
    ("sample", "--top-p", "0"): "top_p",
    ("sample", "--top-p", "1.01"): "top_p",
    ("sample", "--top-p", "nan"): "top_p",
    ("sample", "--top-k", "0"): "top_k",
    ("sample", "--count", "0"): "count",
    ("complete", ""): "prompt",
    ("complete", "the", "--beam", "0"): "beam",
    ("complete", "the", "--beam", "-1"): "beam",
    ("complete", "the", "--beam", "1000000000"): "beam",
    ("complete", "the", "--length", "0"): "length",
    ("complete", "the", "--best", "0"): "best",
    ("eval", "--text", "one.txt"): "2 at least",
    ("eval", "--text", "empty.txt"): "empty",
    ("eval", "--text", "text.txt", "--ngram", "nothing.txt"): "No such file",
    ("eval", "--text", "text.txt", "--ngram", "one.txt"): "5 at least",
    ("eval", "--text", "text.txt", "--ngram", "text.txt", "--order", "0"): "order",
    ("eval", "--text", "text.txt", "--dynamic", "nan"): "dynamic",
    ("eval", "--text", "text.txt", "--dynamic", "-1"): "dynamic",
    ("eval", "--text", "text.txt", "--dynamic", "1", "--decay", "2"): "decay",
    ("eval", "--text", "text.txt", "--dynamic", "1", "--cache", "3"): "one of them",
    ("eval", "--text", "text.txt", "--cache", "0"): "cache",
    ("eval", "--text", "text.txt", "--cache", "3", "--cache-weight", "2"): "cache weight",
    ("eval", "--text", "text.txt", "--cache", "3", "--theta", "nan"): "theta",
    ("eval", "--text", "text.txt", "--dynamic", "1e38"): "smaller rate",
}


def test_bad_use_is_one_line(model):
    files = {"empty.txt": "", "blank.txt": "\n \n", "one.txt": "t", "pairs.tsv": "a\tthe cat\tcat\n"}
    for name, content in files.items():
        Path(name).write_text(content)
    before = snapshot(Path())
    for (command, *arguments), said in WRONG.items():
        line = fails("lm", command, model, *arguments)
        assert said in line, (command, arguments, line)
    assert "text.txt" in fails("lm", "complete", "text.txt", "the")
    assert "no such file" in fails("lm", "complete", "nowhere.safetensors", "the")
    assert snapshot(Path()) == before


def test_an_option_that_means_nothing_alone_is_refused(model):
    for option in (["--decay", "0.5"], ["--theta", "3"], ["--cache-weight", "0.5"], ["--order", "3"]):
        assert f"{option[0]} without" in fails("lm", "eval", model, "--text", "text.txt", *option)
