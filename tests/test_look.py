"""The commands that look into a model: tables, pictures, and what they refuse."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from cli_cases import fails, folder_fixture, model_fixture, run, snapshot, train, without_matplotlib_fixture  # noqa: F401

from minigrad import viz
from minigrad.errors import UserError
from minigrad.models import LanguageConfig, LanguageModel
from minigrad.models.lm import inspect
from minigrad.models.lm.agreement import vocabulary
from minigrad.models.lm.commands.look import _coloured
from minigrad.models.progress import Metrics


@pytest.fixture(name="words")
def words_fixture(folder):
    LanguageModel(LanguageConfig("gru", hidden=8, embedding=4), vocabulary(), generator=0).save("words.safetensors")
    return "words.safetensors"


def drawn(name):
    """That a picture is one, by its format."""
    data = Path(name).read_bytes()
    if name.endswith(".png"):
        assert data.startswith(b"\x89PNG") and data.rstrip().endswith(b"IEND\xaeB`\x82")
    else:
        assert ElementTree.fromstring(data).tag.endswith("svg")
    assert [p for p in Path().iterdir() if p.suffix == ".tmp"] == []


def test_every_command_draws(model):
    run("lm", "gradients", model, "--text", "text.txt", "--length", 20, "--plot", "a.png")
    run("lm", "gates", model, "the cat\nsat", "--plot", "b.svg")
    run("lm", "nearest", model, "t", " ", "--plot", "c.svg")
    run("lm", "curves", "m.metrics.jsonl", "--plot", "d.png", "--x", "minutes")
    for name in ("a.png", "b.svg", "c.svg", "d.png"):
        drawn(name)


def test_gradients(model):
    found = json.loads(
        run("lm", "gradients", model, "--text", "text.txt", "--length", 9, "--batch", 2, "--json").stdout
    )
    loaded, text = LanguageModel.load(model), Path("text.txt").read_text()
    ids = loaded.vocabulary.encode(text)
    places = np.stack([ids[:10], ids[len(ids) - 10 :]], 1)
    for name, norms in inspect.gradient_norms(loaded, places).items():
        assert found["norms"][f"m {name}"] == pytest.approx(norms.tolist(), rel=1e-5)
    shown = run("lm", "gradients", "--text", "text.txt", "--hidden", 8, "--length", 30).stdout
    assert shown.splitlines()[1].split() == ["steps", "back", "rnn", "h", "gru", "h", "lstm", "h", "lstm", "c"]
    assert "cosine" in shown and "steps to 1 %" in shown


def test_gradients_fade_and_explode():
    faded, grown = (
        json.loads(
            run("lm", "gradients", "--cell", "rnn", "--hidden", 32, "--length", 30, "--gain", g, "--json").stdout
        )
        for g in (0.5, 4)
    )
    assert faded["fading"]["rnn h"]["median"] < 0.5 < 1 < grown["fading"]["rnn h"]["median"]


def test_gradients_that_overflow(folder):
    options = ["--cell", "rnn-relu", "--gain", 1000, "--hidden", 16, "--length", 60, "--batch", 2]
    shown = run("lm", "gradients", *options, "--plot", "a.png")
    assert "the gradient of rnn-relu overflowed" in shown.stderr
    assert shown.stdout.splitlines()[-1].split() == ["rnn-relu", "value", "-", "nan", "nan", "-"]
    drawn("a.png")
    found = run("lm", "gradients", *options, "--json").stdout
    assert json.loads(found, parse_constant=pytest.fail)["clipping"]["rnn-relu"][0]["cosine"] is None


def test_gates_as_a_table_as_colours_and_as_json(model):
    found = json.loads(run("lm", "gates", model, "the cat", "--unit", 3, "--json").stdout)
    loaded = LanguageModel.load(model)
    expected = inspect.gates(loaded, loaded.vocabulary.encode("the cat"))
    assert found["symbols"] == list("the␣cat") and found["unit"] == 3
    for name, a in expected.items():
        assert found[name] == pytest.approx(a[:, 3].tolist())
    table = run("lm", "gates", model, "the cat", "--unit", 3).stdout.splitlines()
    assert table[1].split() == ["symbol", "i", "f", "g", "o", "c", "h"] and len(table) == 9 and "\x1b" not in str(table)
    coloured = run("lm", "gates", model, "the cat", "--unit", 3, "--color").stdout
    assert coloured.count("\x1b[0m") == 6 * 7 + 22 and coloured.splitlines()[1].startswith("i   \x1b[48;5;")
    varied = inspect.gates(loaded, loaded.vocabulary.encode("the cat"))["h"].std(0).argmax()
    assert f"unit {varied} of" in run("lm", "gates", model, "the cat").stdout


def test_colours_wrap_at_the_width_of_the_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "14")
    _coloured(list("abcdefghijklmnop"), {"h": np.zeros(16)}, words=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.count("\x1b[0m") for line in lines if line.startswith("h")] == [10, 6]


def test_neighbours_of_words(words):
    found = json.loads(run("lm", "nearest", words, "cat", "<UNK>", "--count", 3, "--json").stdout)
    assert set(found) == {"cat", "<UNK>"} and [len(near) for near in found.values()] == [3, 3]
    assert all(a >= b for near in found.values() for (_, a), (_, b) in zip(near, near[1:]))
    run("lm", "gates", words, "the cat , which saw the dogs", "--plot", "a.png")
    drawn("a.png")


def test_curves_of_several_runs(model):
    Path("other").mkdir()
    Path("other/m.metrics.jsonl").write_text(
        '{"step": 3, "validation_loss": 2.5}\n{"step": 4, "validation_loss": 2.75}\n'
    )
    shown = run("lm", "curves", "m.metrics.jsonl", "other/m.metrics.jsonl", "--plot", "a.svg").stdout
    assert [line.split()[0] for line in shown.splitlines()] == ["run", "m.metrics.jsonl", "other/m.metrics.jsonl"]
    assert shown.splitlines()[2].split()[1:] == ["4", "nan", "2.7500", "2.5000", "3"]
    drawn("a.svg")


def test_curves_pass_over_a_torn_last_line_as_a_resumed_training_does(folder):
    whole = '{"step": 3, "validation_loss": 2.5}\n'
    for torn in ("", '{"step": 4, "valid', '{"step": 4, "text": "\u0085", "validation_loss": 1', "4"):
        Path("a.metrics.jsonl").write_text(whole + torn)
        (row,) = json.loads(run("lm", "curves", "a.metrics.jsonl", "--json").stdout)
        assert (row["steps"], row["validation"], row["training"]) == (3, 2.5, None)
        Metrics(Path("a.metrics.jsonl"), step=3).add(step=9)
        assert Path("a.metrics.jsonl").read_text() == whole + '{"step": 9}\n'


# ------------------------------------------------------------------------------------------------ bad input

BAD = {
    ("gates", "m.safetensors", ""): "empty text",
    ("gates", "m.safetensors", "Ω"): "'Ω'",
    ("gates", "m.safetensors", "the", "--unit", "12"): "0 to 11",
    ("gates", "m.safetensors", "the", "--unit", "-1"): "0 to 11",
    ("gates", "m.safetensors", "the", "--layer", "1"): "0 to 0",
    ("gates", "missing.safetensors", "the"): "missing.safetensors",
    ("gates", "m.safetensors", "the " * 400, "--plot", "new.png"): "1,200",
    ("nearest", "m.safetensors", "the"): "3 characters",
    ("nearest", "m.safetensors", ""): "0 characters",
    ("nearest", "m.safetensors", "Ω"): "'Ω'",
    ("nearest", "m.safetensors", "t", "--count", "0"): "count",
    ("gradients", "--cell", "transformer"): "transformer",
    ("gradients", "m.safetensors", "--cell", "lstm"): "beside models",
    ("gradients", "--text", "text.txt", "--length", "5000"): "longer text",
    ("gradients", "--text", "text.txt", "--clip-norm", "nan"): "clip-norm",
    ("gradients", "--text", "text.txt", "--clip-value", "0"): "clip-value",
    ("gradients", "--text", "nowhere.txt"): "No such file",
    ("curves", "nowhere.jsonl"): "No such file",
    ("curves", "text.txt"): "no line of JSON",
    ("curves",): "METRICS",
    ("curves", "m.metrics.jsonl", "--plot", "new.bmp"): "'.bmp'",
    ("curves", "m.metrics.jsonl", "--plot", "new"): "no ending",
    ("curves", "m.metrics.jsonl", "--plot", "nowhere/new.png"): "no folder",
    ("curves", "m.metrics.jsonl", "--plot", "folder.png"): "a folder",
}  # fmt: skip


def test_bad_input(model):
    Path("folder.png").mkdir()
    before = snapshot(Path())
    for arguments, said in BAD.items():
        assert said in fails("lm", *arguments), arguments
    assert snapshot(Path()) == before


def test_unknown_words(words):
    assert "'zebra', which is not in it" in fails("lm", "nearest", words, "cat", "zebra")
    assert "2 words" in fails("lm", "nearest", words, "the cat")


def test_without_matplotlib(model, without_matplotlib):
    assert "pip install 'minigrad[plot]'" in fails("lm", "curves", "m.metrics.jsonl", "--plot", "a.png")
    assert "validation" in run("lm", "curves", "m.metrics.jsonl").stdout


# ------------------------------------------------------------------------------------------------ pictures


def test_a_picture_is_whole_and_repeatable(tmp_path):
    for kind in ("png", "svg"):
        found = []
        for k in range(2):
            figure, (ax,) = viz.grid(title="t")
            viz.curves(ax, {"a": ([1, 2], [3, 4]), "b": ([1, 2], [0, 1])}, "x", "y", logarithmic=True)
            viz.save_picture(figure, tmp_path / f"{k}.{kind}")
            found.append((tmp_path / f"{k}.{kind}").read_bytes())
        assert found[0] == found[1]
    assert len(list(tmp_path.iterdir())) == 4


def test_a_picture_that_cannot_be_written(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name, said in (("a.gif", "'.gif'"), ("folder.png", "a folder"), ("nowhere/a.png", "no folder")):
        with pytest.raises(UserError, match=said):
            viz.check_picture(tmp_path / name)


def test_many_lines_can_be_told_apart():
    figure, (ax,) = viz.grid()
    viz.curves(ax, {str(k): ([0, 1], [k, k]) for k in range(28)}, "x", "y")
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in ax.lines}
    assert len(looks) == 28 and figure is ax.figure


def test_a_legend_hides_nothing():
    figure, (ax,) = viz.grid()
    viz.curves(ax, {name: ([0, 1], [0, 1]) for name in ("rnn", "gru", "a cell with a long name")}, "x", "y")
    figure.draw_without_rendering()
    legend = ax.get_legend().get_window_extent()
    assert ax.get_window_extent().x1 <= legend.x0 < legend.x1 <= figure.bbox.x1


def test_colours_of_a_terminal():
    assert viz.on_colour("a", 2.0) == viz.on_colour("a", 1.0) != viz.on_colour("a", 0.0) == viz.on_colour("a", -1.0)
    assert viz.on_colour("a", -1.0, signed=True) != viz.on_colour("a", 0.0, signed=True)
    assert viz.on_colour("a", float("nan")) == viz.on_colour("a", 0.5)
