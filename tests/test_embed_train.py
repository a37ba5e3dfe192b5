"""``minigrad embed train``: all objectives end to end, stopped and resumed, other formats, bad input."""

import itertools
import json
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from click.testing import CliRunner

from minigrad import nn
from minigrad.cli import main
from minigrad.models.embed import hogwild, run, words
from minigrad.models.embed.config import OBJECTIVES, EmbedConfig
from minigrad.models.embed.formats import read_vectors, write_vectors

LINES = ["The king loved the queen .", "A man met a woman .", "The cat sat on the mat .", "One dog ate one apple ."]
TEXT = "\n".join(LINES[i % 4] for i in range(400)) + "\n"
SMALL = ["--dim", "5", "--min-count", "1", "--epochs", "2", "--threads", "1", "--seed", "3"]


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def invoke(*arguments):
    """Exit code and what was printed."""
    result = CliRunner().invoke(main, ["embed", "train", *map(str, arguments)], standalone_mode=True)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@contextmanager
def stopped_at_once():
    """As if a signal came before the first step."""
    yield [signal.SIGINT]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_learns_is_stopped_and_goes_on(objective, text, tmp_path, monkeypatch):
    """A run that is stopped after its first tasks and resumed ends in the same vectors, bit for bit."""
    monkeypatch.setattr(hogwild, "TASKS", 1)
    monkeypatch.setattr(words, "PIECE", 300)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    options = [*SMALL, "--objective", objective, *(["--buckets", "50"] if "fasttext" in objective else [])]
    if objective == "neural":
        del options[6:8]  # threads
    elif objective != "glove":
        options += ["--sample", "0", "--lr", "0.1"]
    code, output = invoke(text, *options, "--out", whole)
    assert code == 0 and "saved" in output
    vectors = read_vectors(whole)
    assert vectors.array.shape == (20, 5) and "king" in vectors and vectors.counts[vectors.id("king")] >= 99
    assert (vectors.subwords is not None) == ("fasttext" in objective)
    records = [json.loads(line) for line in whole.with_suffix(".metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [1, 2] and records[1]["loss"] < records[0]["loss"]
    assert ("held_out_loss" in records[0]) == (objective != "glove")
    assert all(0 < r["seconds"] < 600 for r in records)
    with monkeypatch.context() as patched:
        patched.setattr(run, "interruptible", stopped_at_once)
        code, output = invoke(text, *options, "--out", parts)
        assert code == 130 and "go on with: minigrad embed train" in output
    stopped = read_vectors(parts)
    assert not np.array_equal(stopped.array, vectors.array)
    code, output = invoke(text, "--resume", parts)
    assert code == 0
    again = read_vectors(parts)
    assert np.array_equal(again.array, vectors.array) and again.words == vectors.words
    resumed = [json.loads(line) for line in parts.with_suffix(".metrics.jsonl").read_text().splitlines()]
    assert [r["loss"] for r in resumed] == [r["loss"] for r in records]
    a, b = nn.read(parts), nn.read(whole)
    assert a[1]["training"]["twins"] == (
        {} if objective in ("glove", "neural") else {"W": a[1]["training"]["twins"]["W"]}
    )
    assert all(np.array_equal(a[0][name], b[0][name]) for name in b[0])
    code, output = invoke(text, "--resume", parts)
    assert code == 0 and "finished before" in output
    code, output = invoke(text, "--resume", parts, "--epochs", 3)
    assert code == 0 and "going on after epoch 2" in output


def test_other_formats_are_written_beside(text, tmp_path):
    code, _ = invoke(text, *SMALL, "--out", tmp_path / "v.txt")
    assert code == 0
    a, b = read_vectors(tmp_path / "v.txt"), read_vectors(tmp_path / "v.safetensors")
    assert a.words == b.words and np.array_equal(a.array, b.array)


def test_the_default_place_replaces_nothing(text, tmp_path):
    for name in ("vectors", "vectors-2"):
        assert invoke(text, *SMALL)[0] == 0
        assert (tmp_path / "runs" / f"{name}.safetensors").stat().st_size


def test_words_drawn_by_a_real_interrupt(text, tmp_path):
    """SIGINT to the program: it saves, says how to go on, and goes on."""
    out = tmp_path / "v.safetensors"
    command = [sys.executable, "-c", "from minigrad.cli import main; main()", "embed", "train", str(text)]
    command += [*SMALL, "--epochs", "1000000"]
    process = subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.lstrip().startswith("0:") and "epoch   3 " in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "go on with" in errors and "Traceback" not in errors
    assert len(read_vectors(out)) == 20


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("window", [1, 3, 500])
def test_any_window(objective, window, text, tmp_path):
    if objective == "neural" and window == 500:
        pytest.skip("no text before most words")
    options = ["--objective", objective, "--window", window, *(["--memory", 1] if objective == "glove" else [])]
    code, output = invoke(text, *SMALL[:6], *options, "--out", tmp_path / "v.safetensors")
    assert code == 0, output


def test_speed_is_of_this_run(text, tmp_path, monkeypatch):
    """What was done before a stop does not count as done since: words a second are those of a whole run."""
    monkeypatch.setattr(hogwild, "TASKS", 1)
    monkeypatch.setattr(words, "PIECE", 300)
    seen = []
    monkeypatch.setattr(run.Bar, "show", lambda bar, share, shown: seen.append(shown))
    out = tmp_path / "v.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(run, "interruptible", stopped_at_once)
        invoke(text, *SMALL, "--out", out)
    assert len(seen) == 1 and "left" not in seen[0]
    monkeypatch.setattr(run.time, "monotonic", itertools.count(step=1.0).__next__)
    code, _ = invoke(text, "--resume", out)
    speeds = [float(s.split()[4].replace(",", "")) for s in seen[2:] if "left" in s]
    assert code == 0 and speeds and max(speeds) < 400


BAD = {
    "no such file": ("none.txt", [], "none.txt"),
    "one word": ("hello hello hello\n" * 50, [], "no two words, only 'hello'"),
    "too rare": ("a b c d\n", ["--min-count", "5"], "none that occurs 5 times"),
    "empty": ("", [], "an empty file"),
    "not utf-8": (b"ab\xff\xfe cd", [], "not UTF-8"),
    "binary": (b"ab\0cd", [], "binary data"),
    "other objective's option": (TEXT, ["--x-max", "10"], "--x-max with --objective sgns"),
    "turned subwords": (TEXT, ["--objective", "fasttext", "--low", "5", "--high", "3"], "at most --high, 3"),
    "unknown objective": (TEXT, ["--objective", "sgn"], "'sgn'"),
    "no numbers": (TEXT, ["--dim", "0"], "[dim] got 0"),
    "too much held out": (TEXT, ["--held-out", "0.9"], "below 0.5"),
    "unknown format": (TEXT, ["--out", "v.png"], "ending"),
    "a folder": (TEXT, ["--out", "."], "the ending"),
    "an infinite rate": (TEXT, ["--lr", "inf"], "[lr] got inf"),
    "too large a rate": (TEXT, ["--lr", "1e30", "--epochs", "50"], "smaller --lr"),
    "no pairs": ("a\nb\n" * 50, ["--tokens", "spaces"], "not one pair of words"),
    "glove without a held-out part": (TEXT, ["--objective", "glove", "--held-out", "0.1"], "--held-out with"),
    "glove of vast memory": (TEXT, ["--objective", "glove", "--memory", "1e308"], "[memory]"),
    "glove of little memory": (TEXT, ["--objective", "glove", "--memory", "1e-9"], "memory"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name, tmp_path, monkeypatch):
    content, options, expected = BAD[name]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "text.txt"
    if name == "no such file":
        path = tmp_path / content
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    least = [] if "--min-count" in options else ["--min-count", "1"]
    with np.errstate(all="ignore"):
        code, output = invoke(path, "--threads", 1, "--dim", 5, *least, *options)
    last = output.strip().splitlines()[-1].lower()
    assert code == 2 and last.startswith("error: ") and expected.lower() in last
    assert not list(tmp_path.glob("runs/*.safetensors"))


def test_resuming_is_checked(text, tmp_path):
    out, other = tmp_path / "v.safetensors", tmp_path / "other.txt"
    other.write_text(TEXT + "more words .\n")
    assert invoke(text, *SMALL, "--out", out)[0] == 0
    before = out.read_bytes()
    for arguments, expected in {
        (text, "--resume", out, "--dim", 9): "--dim 9",
        (other, "--resume", out): "the one that training began with",
        (text, "--resume", tmp_path / "none.safetensors"): "no such file",
        (text, "--resume", text): "damaged or foreign",
    }.items():
        code, output = invoke(*arguments)
        assert code == 2 and expected in output, output
    write_vectors(tmp_path / "plain.safetensors", read_vectors(out))
    code, output = invoke(text, "--resume", tmp_path / "plain.safetensors")
    assert code == 2 and "without the state of their training" in output
    arrays, meta = nn.read(out)
    for name, wrong in {
        "training.C": arrays["training.C"][1:],
        "training.tally": np.array([5.0, 0, 0, 0]),
        "training.losses": np.array([np.nan]),
    }.items():
        nn.write(tmp_path / "damaged.safetensors", {**arrays, name: wrong}, meta)
        code, output = invoke(text, "--resume", tmp_path / "damaged.safetensors", "--epochs", 9)
        assert code == 2 and "a damaged state of training" in output
    assert out.read_bytes() == before


@pytest.mark.parametrize("name", ["notes.safetensors", "notes.txt", "notes.bin", "notes.vec"])
def test_nothing_but_vectors_is_replaced(name, text, tmp_path):
    (tmp_path / name).write_text("my notes\n")
    code, output = invoke(text, *SMALL, "--out", tmp_path / name)
    assert code == 2 and "no word vectors" in output and (tmp_path / name).read_text() == "my notes\n"
    before = text.read_text()
    assert invoke(text, *SMALL, "--out", text)[0] == 2 and text.read_text() == before


def test_vectors_of_before_are_kept(text, tmp_path):
    out = tmp_path / "v.safetensors"
    assert invoke(text, *SMALL, "--out", out)[0] == 0
    before = out.read_bytes()
    code, output = invoke(text, *SMALL, "--dim", 4, "--out", tmp_path / "v.txt")
    assert code == 0 and "will be kept as" in output and (tmp_path / "v.old.safetensors").read_bytes() == before
    assert read_vectors(tmp_path / "v.txt").dim == 4


def test_a_stopped_run_names_the_other_file(text, tmp_path, monkeypatch):
    monkeypatch.setattr(hogwild, "TASKS", 1)
    monkeypatch.setattr(words, "PIECE", 300)
    with monkeypatch.context() as patched:
        patched.setattr(run, "interruptible", stopped_at_once)
        code, output = invoke(text, *SMALL, "--out", tmp_path / "v.txt")
    again = shlex.split(output.split("go on with: minigrad embed train ")[1])
    assert code == 130 and not (tmp_path / "v.txt").exists()
    code, output = invoke(*again)
    assert code == 0 and read_vectors(tmp_path / "v.txt").dim == 5, output


def test_settings_know_their_objective():
    assert EmbedConfig(objective="glove").epochs == 25 and EmbedConfig().epochs == 5
    assert EmbedConfig.from_json("here", EmbedConfig(threads=1).to_json()) == EmbedConfig(threads=1)
