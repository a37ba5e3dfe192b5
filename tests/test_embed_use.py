"""``minigrad embed nearest``, ``analogy``, ``eval`` and ``debias``: what they print and write, and what they refuse."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from cli_cases import fails, run, snapshot
from click.testing import CliRunner

from minigrad.cli import main
from minigrad.models.embed.debias import bias, bias_directions
from minigrad.models.embed.formats import read_vectors

NOTES = """6 4
man -1 .01 .03 .09
woman 1 .02 .02 .01
king -.95 .93 .70 .02
queen .97 .95 .69 .01
apple 0 -.01 .03 .95
orange .01 0 -.02 .97
"""
FILES = {
    "v.txt": NOTES, "q.txt": ": family\nman woman king queen\nman woman boy girl\n: gram1\nMan king WOMAN apple\n",
    "s.tsv": "# people\nman\tking\t9\napple\torange\t9.5\nking\tapple\t1\nking\tprince\t8\n",
    "neutral.txt": "apple orange\nking pilot\n", "sets.txt": "woman man\n", "bad.txt": "a b c\n", "empty.txt": "\n",
}  # fmt: skip


@pytest.fixture(autouse=True, name="folder")
def folder_fixture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    return tmp_path


def typed(text, *arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments], input=text)
    assert result.exit_code == code, result.output
    return result


def test_nearest_words():
    lines = run("embed", "nearest", "v.txt", "king", "apple", "--topn", 2).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["king", "cosine"], ["man", "0.6506"], ["queen", "0.1945"], [], ["apple", "cosine"], ["orange", "0.9985"],
        ["man", "0.0904"],
    ]  # fmt: skip
    found = json.loads(run("embed", "nearest", "v.txt", "king", "--among", 5, "--json").stdout)
    assert found["query"] == "king" and found["method"] == "add"
    assert [word for word, _ in found["nearest"]] == ["man", "queen", "apple", "woman"]


@pytest.mark.parametrize("method", ["add", "mul", "euclidean"])
@pytest.mark.parametrize(
    "terms", [["king", "-", "man", "+", "woman"], ["woman + king - man"], ["-", "man + woman + king"]]
)
def test_an_analogy(method, terms):
    found = json.loads(run("embed", "analogy", "v.txt", *terms, "--method", method, "--topn", 1, "--json").stdout)
    assert [word for word, _ in found["nearest"]] == ["queen"]


def test_questions_from_the_standard_input():
    lines = typed("king apple\n\nqueen\n", "embed", "nearest", "v.txt", "--json").stdout.splitlines()
    assert [json.loads(line)["query"] for line in lines] == ["king", "apple", "queen"]
    shown = typed("king - man + woman\nwoman - man + king\n", "embed", "analogy", "v.txt", "--topn", 1).stdout
    assert shown.count("queen") == 2 and shown.count("\n\n") == 1
    assert typed("", "embed", "nearest", "v.txt").output == ""


def test_a_line_without_an_answer_does_not_stop_the_others():
    found = typed("king\nquen\napple\n", "embed", "nearest", "v.txt", "--json", code=2)
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    assert [a["query"] for a in answers] == ["king", "quen", "apple"] and list(answers[1]) == ["query", "error"]
    first, last = found.stderr.strip().splitlines()
    assert first.startswith("line 2: ") and "did you mean 'queen'" in first
    assert last.startswith("error: ") and "1 of 3" in last


def test_words_go_on_after_one_that_is_not_there():
    for asked in (["king quen apple"], ["king", "quen", "apple"]):
        found = typed("", "embed", "nearest", "v.txt", "--topn", 1, *asked, code=2) if len(asked) > 1 else typed(
            asked[0], "embed", "nearest", "v.txt", "--topn", 1, code=2)  # fmt: skip
        assert "king" in found.stdout and "apple" in found.stdout and "did you mean 'queen'" in found.stderr


def test_in_a_terminal_a_wrong_word_is_no_end(monkeypatch, capsys):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal(io.BytesIO(b"quen\nqu\xe9en\nqueen - woman + man\n")))
    main(["embed", "analogy", "v.txt", "--topn", "1"], standalone_mode=False)
    shown, said = capsys.readouterr()
    assert shown.splitlines()[1].split() == ["king", "0.9311"]
    assert said.count("> ") == 4 and "did you mean 'queen'" in said and "error" not in said


def test_evaluation():
    shown = run("embed", "eval", "v.txt", "--analogies", "q.txt", "--similarity", "s.tsv").stdout.splitlines()
    assert [line.split()[:5] for line in shown[1:6]] == [
        ["family", "1", "1", "100.0%", "1"], ["gram1", "0", "1", "0.0%", "0"], ["semantic", "1", "1", "100.0%", "1"],
        ["syntactic", "0", "1", "0.0%", "0"], ["all", "1", "2", "50.0%", "1"],
    ]  # fmt: skip
    assert shown[-1].split() == ["s.tsv", "1.0000", "0.9534", "3", "1"]
    found = json.loads(run("embed", "eval", "v.txt", "--analogies", "q.txt", "--case", "--json").stdout)
    assert found["analogies"][1] == {"name": "gram1", "right": 0, "asked": 0, "skipped": 1, "accuracy": None}
    found = json.loads(run("embed", "eval", "v.txt", "--similarity", "s.tsv", "--among", 2, "--json").stdout)
    assert found == {"similarity": {"pearson": None, "spearman": None, "pairs": 0, "skipped": 4}}


def test_debiasing():
    shown = run("embed", "debias", "v.txt", "--pairs", "woman:man,queen:king", "--neutral", "neutral.txt",
                "--equalise", "sets.txt", "--out", "fair.bin")  # fmt: skip
    assert shown.stderr == "1 of 4 neutral words left out: no vector\n"
    assert [line.split() for line in shown.stdout.splitlines()[2:3]] == [["king", "-0.6324", "0.0000"]]
    raw, fair = read_vectors("v.txt"), read_vectors("fair.bin")
    b = bias_directions(raw, [("woman", "man"), ("queen", "king")])
    np.testing.assert_allclose(bias(fair, ["apple", "orange", "king"], b), 0, atol=1e-6)
    assert fair.similarity("king", "man") == pytest.approx(fair.similarity("king", "woman"), abs=1e-6)
    assert fair.words == raw.words
    Path("p.txt").write_text("woman man\nqueen:king\n")
    found = json.loads(run("embed", "debias", "v.txt", "--pairs", "p.txt", "--neutral", "neutral.txt", "--out",
                           "fair.txt", "--json").stdout)  # fmt: skip
    assert found["pairs"] == [["woman", "man"], ["queen", "king"]] and found["bias"]["king"][0] < -0.6
    shown = run("embed", "debias", "v.txt", "--neutral", "neutral.txt", "--out", "fair.txt")
    assert "9 of 10 pairs left out" in shown.stderr and "which points to woman from man" in shown.stdout


BAD = {
    ("nearest", "v.txt", "quen"): "did you mean 'queen'",
    ("nearest", "v.txt", "king", "--topn", "0"): "topn",
    ("nearest", "v.txt", "king", "--among", "0"): "among",
    ("nearest", "v.txt", "king", "--method", "cosine"): "'cosine'",
    ("nearest", "nowhere.txt", "king"): "nowhere.txt",
    ("nearest", "bad.txt", "king"): "bad.txt",
    ("nearest",): "VECTORS",
    ("analogy", "v.txt", "man", "king", "woman"): "a - b + c",
    ("analogy", "v.txt", "king", "-"): "king - man + woman",
    ("analogy", "v.txt", "king - - man"): "king - man + woman",
    ("analogy", "v.txt", ""): "king - man + woman",
    ("analogy", "v.txt", "king - king"): "add up to nothing",
    ("analogy", "v.txt", "king - man + womman"): "'woman'",
    ("eval", "v.txt"): "--analogies",
    ("eval", "v.txt", "--analogies", "bad.txt"): "line 1: 'a b c'",
    ("eval", "v.txt", "--analogies", "empty.txt"): "no question",
    ("eval", "v.txt", "--analogies", "nowhere.txt"): "No such file",
    ("eval", "v.txt", "--similarity", "bad.txt"): "line 1: 'a b c'",
    ("eval", "v.txt", "--similarity", "."): "a folder",
    ("eval", "nowhere.txt", "--similarity", "s.tsv"): "nowhere.txt",
    ("debias", "v.txt", "--out", "new.txt"): "--neutral",
    ("debias", "v.txt", "--neutral", "neutral.txt"): "--out",
    ("debias", "v.txt", "--neutral", "neutral.txt", "--out", "new.doc"): "'.doc'",
    ("debias", "v.txt", "--neutral", "neutral.txt", "--out", "v.txt"): "a file that is read",
    ("debias", "v.txt", "--neutral", "neutral.txt", "--out", "neutral.txt"): "a file that is read",
    ("debias", "v.txt", "--neutral", "neutral.txt", "--out", "nowhere/new.txt"): "nowhere",
    ("debias", "v.txt", "--neutral", "empty.txt", "--out", "new.txt"): "no words",
    ("debias", "v.txt", "--neutral", "bad.txt", "--out", "new.txt"): "no neutral word",
    ("debias", "v.txt", "--pairs", "boy:girl", "--neutral", "neutral.txt", "--out", "new.txt"): "no pair",
    ("debias", "v.txt", "--pairs", "boy:", "--neutral", "neutral.txt", "--out", "new.txt"): "'boy:'",
    ("debias", "v.txt", "--pairs", "a:b:c", "--neutral", "neutral.txt", "--out", "new.txt"): "'a:b:c'",
    ("debias", "v.txt", "--pairs", "man:man", "--neutral", "neutral.txt", "--out", "new.txt"): "a set of one word",
}  # fmt: skip


def test_bad_input(folder):
    before = snapshot(folder)
    for arguments, said in BAD.items():
        assert said in fails("embed", *arguments), arguments
    assert snapshot(folder) == before
