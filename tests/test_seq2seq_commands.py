"""minigrad seq2seq at the command line: train, go on, translate, score, evaluate; and what it refuses."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_cases import fails, run, snapshot, without_matplotlib_fixture  # noqa: F401
from click.testing import CliRunner

from minigrad import nn
from minigrad.cli import main
from minigrad.models import Recipe
from minigrad.models.seq2seq.beam import Decoding
from minigrad.models.seq2seq.commands.train import read_dates
from minigrad.models.seq2seq.commands.use import attention_figure
from minigrad.models.seq2seq.decode import translate
from minigrad.models.seq2seq.metrics import bleu, exact
from minigrad.models.seq2seq.model import Seq2Seq
from minigrad.models.seq2seq.presets import PRESETS
from minigrad.models.seq2seq.run import PairPace, Parts, Reading, Seq2SeqRun, of_dates, of_files
from minigrad.models.seq2seq.score import log_probabilities

NAMES, DOES = ["Jane", "Tom", "Léa", "Max"], {"visite": "visits", "voit": "sees", "aime": "likes", "trouve": "finds"}
PLACES = {"Rome": "Rome", "la mer": "the sea", "le lac": "the lake", "Lyon": "Lyon", "l'Afrique": "Africa"}
PAIRS = [
    (f"{n} {fr} {place}{mark}", f"{n} {en} {there}{mark}")
    for n in NAMES for fr, en in DOES.items() for place, there in PLACES.items() for mark in ".!"
]  # fmt: skip
TINY = ["--hidden", "12", "--embedding", "6", "--batch", "8", "--warmup", "0", "--validation-share", "0.1"]


@pytest.fixture(name="folder", autouse=True)
def folder_fixture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pairs.tsv").write_text("".join(f"{x}\t{y}\n" for x, y in PAIRS))
    return tmp_path


def train(*arguments, out="m.safetensors", code=0):
    return run("seq2seq", "train", "pairs.tsv", *TINY, "--out", out, *arguments, code=code)


@pytest.fixture(name="model", scope="module")
def model_fixture(tmp_path_factory):
    """The path of a model of words, trained a little."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "pairs.tsv").write_text("".join(f"{x}\t{y}\n" for x, y in PAIRS))
    pairs, model = str(folder / "pairs.tsv"), str(folder / "m.safetensors")
    run(
        "seq2seq",
        "train",
        pairs,
        *TINY,
        "--hidden",
        24,
        "--lr",
        0.02,
        "--steps",
        60,
        "--test-share",
        0.1,
        "--out",
        model,
    )
    return model


def given(text, *arguments):
    """The outcome of a command that reads a text from the standard input."""
    return CliRunner().invoke(main, [str(a) for a in arguments], input=text, catch_exceptions=False)


# ------------------------------------------------------------------------------------------------ train


def test_a_run_says_what_it_trains_on_and_how_good_it_became():
    result = train("--steps", 20, "--validations", 2, "--validation-pairs", 9)
    said = result.stderr
    assert "lstm of 1 layer with 12 units, general attention" in said and "pairs.tsv" in said
    assert "held-out pairs; 0.0% of the words of their sources" in said and "symbols/s" in said
    model = Seq2Seq.load("m.safetensors")
    parts = of_files("pairs.tsv")(Reading.from_json("here", nn.read("m.safetensors")[1]["training"]["spelling"]))
    records = [json.loads(line) for line in Path("m.metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [10, 20] and records[-1]["final"]
    assert all(r in said for r in ("source  ", "reference  ", "output  "))
    lines = [line.strip().removeprefix("source  ") for line in said.splitlines() if "source  " in line]
    held_out = dict(parts.validation)
    assert 1 <= len(lines) <= 3 and set(lines) <= set(held_out)
    outputs = [found[0].text for found in translate(model, list(held_out), Decoding(beam=1))]
    if len(held_out) <= 9:
        scores = bleu(outputs, list(held_out.values())), exact(outputs, list(held_out.values()))
        assert [s.text in said for s in scores] == [True, True]
        assert [records[-1][s.name.lower()] for s in scores] == pytest.approx([s.value for s in scores])


@pytest.mark.parametrize("options", [[], ["--dropout", "0.3", "--level", "char"], ["--average", "asgd", "--swap"]])
def test_a_stopped_run_goes_on_as_if_it_had_not(options):
    train("--steps", 12, "--validations", 0, *options, out="whole.safetensors")
    facts, config = nn.read("whole.safetensors")[1]["training"], Seq2Seq.load("whole.safetensors").config
    recipe, reading = Recipe.from_json("here", facts["recipe"]), Reading.from_json("here", facts["spelling"])
    part = Seq2SeqRun.new(of_files("pairs.tsv"), config, recipe, Path("part.safetensors"), PairPace(), reading)
    for _, _ in zip(range(5), part.trainer):
        pass
    part.save()
    run("seq2seq", "train", "pairs.tsv", "--resume", "part.safetensors")
    assert Path("part.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    before = snapshot(Path())
    assert "--hidden 9" in fails("seq2seq", "train", "pairs.tsv", "--resume", "part.safetensors", "--hidden", 9)
    Path("pairs.tsv").write_text("".join(f"{x}\t{y}\n" for x, y in PAIRS[:-1]))
    before[Path("pairs.tsv")] = Path("pairs.tsv").read_bytes()
    assert "training began with" in fails("seq2seq", "train", "pairs.tsv", "--resume", "part.safetensors")
    data = before[Path("pairs.tsv")] = "".join(
        f"{x}\t{y}\n" for x, y in [(PAIRS[0][0] + "!", PAIRS[0][1]), *PAIRS[1:]]
    ).encode()
    Path("pairs.tsv").write_bytes(data)
    assert "pairs, but not the same" in fails("seq2seq", "train", "pairs.tsv", "--resume", "part.safetensors")
    assert snapshot(Path()) == before


def test_an_interrupted_run_says_how_to_go_on(monkeypatch, folder):
    Path("a b.fr").write_text("".join(f"{x}\n" for x, _ in PAIRS))
    Path("a b.en").write_text("".join(f"{y}\n" for _, y in PAIRS))
    files = ["--source", "a b.fr", "--target", "a b.en"]
    monkeypatch.setattr(Seq2SeqRun, "train", lambda run, bar: [2])
    said = run("seq2seq", "train", *files, *TINY, "--steps", 3, "--out", "p.safetensors", code=130).stderr
    assert "minigrad seq2seq train --resume p.safetensors --source 'a b.fr' --target 'a b.en'" in said
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert run("seq2seq", "train", *files, "--resume", "p.safetensors").exit_code == 0


def test_without_files_dates_are_learnt_and_those_of_a_terminal_read(monkeypatch, capsys):
    monkeypatch.setattr(
        "minigrad.models.seq2seq.run.DATES", {"training": (300, 1), "validation": (20, 2), "test": (9, 3)}
    )
    run("seq2seq", "train", "--hidden", 8, "--embedding", 4, "--steps", 2, "--out", "d.safetensors")
    found = json.loads(run("seq2seq", "eval", "d.safetensors", "--beam", 1, "--json").stdout)
    assert found["pairs"] == 9 and found["symbols"] == 99
    assert run("seq2seq", "train", "--resume", "d.safetensors", "--steps", 3).exit_code == 0
    model = Seq2Seq.load("d.safetensors")
    assert model.config.cell == "gru" and model.target.unit == "character"
    lines = iter(["the 3rd of May 1979", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: print(prompt) or next(lines))
    read_dates(model)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    read_dates(model)
    ((found,),) = translate(model, ["the 3rd of May 1979"], Decoding())
    assert capsys.readouterr().out.splitlines() == ["a date: ", f"        {found.text}", "a date: "]


def test_help_shows_the_settings_of_a_run_without_options():
    for arguments, name in (((), "attention"), (("--preset", "dates"), "dates")):
        said = " ".join(run("seq2seq", "train", *arguments, "--help").stdout.split())
        for option in ("embedding", "dropout", "batch", "lr", "warmup"):
            shown = said.partition(f"--{option} ")[2].partition("[default: ")[2].partition("]")[0]
            assert float(shown) == PRESETS[name][option], option
    assert f"{PRESETS['attention']['minutes']:.0f} minutes if none" in said
    assert f"{PRESETS['dates']['steps']} steps of the dates" in said
    assert "left for seq2seq eval --part test" in said  # training itself does not test


def test_long_and_unseen_pairs():
    with open("pairs.tsv", "a") as file:
        file.write("long " * 5000 + "\tshort\n" + "Ωmega?\talpha\n" * 9)
    said = train("--steps", 2, "--batch", 200).stderr
    assert "1 longer than 1,000 symbols" in said
    assert "1 longer than 30 words" in train("--steps", 2, "--longest", 30).stderr


# ------------------------------------------------------------------------------------------------ translate


def test_an_output_line_for_each_line_in_order(model):
    lines = ["Tom voit la mer.", "", "Jane aime Rome !", *(x for x, _ in PAIRS[::23]), "Léa", "word " * 5000]
    Path("in.txt").write_text("".join(f"{line}\n" for line in lines))
    result = run("seq2seq", "translate", model, "in.txt", "--beam", 2, "--max-length", 40)
    loaded = Seq2Seq.load(model)
    expected = [found[0].text for found in translate(loaded, lines, Decoding(beam=2, max_length=40))]
    assert result.stdout.splitlines() == expected and len(expected) == len(lines) and expected[1] == ""
    assert "5,001 of 5,045 words" in result.stderr and "read as <UNK>: word" in result.stderr
    again = given("\r\n".join(lines), "seq2seq", "translate", model, "-", "--beam", 2, "--max-length", 40)
    assert again.stdout == result.stdout and again.exit_code == 0
    assert given("", "seq2seq", "translate", model, "-").output == ""


def test_n_best_with_scores_and_as_json(model):
    lines = ["Tom voit la mer.", "Jane aime Rome."]
    shown = given("\n".join(lines), "seq2seq", "translate", model, "-", "--n-best", 3).stdout.splitlines()
    found = [*translate(Seq2Seq.load(model), lines, Decoding(n_best=3))]
    assert shown == [f"{k}\t{one.score:.4f}\t{one.text}" for k, best in enumerate(found, 1) for one in best]
    records = given("\n".join(lines), "seq2seq", "translate", model, "-", "--n-best", 3, "--json").stdout.splitlines()
    for line, best, record in zip(lines, found, map(json.loads, records), strict=True):
        assert record["source"] == line and [t["text"] for t in record["translations"]] == [one.text for one in best]
        assert record["translations"][0]["log_probability"] == pytest.approx(best[0].log_probability)


def test_lines_are_translated_as_they_come(model, tmp_path):
    """The first answer is there before the second question is asked."""
    command = [sys.executable, "-c", "from minigrad.cli import main; main()", "seq2seq", "translate", model, "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        expected = [found[0].text for found in translate(Seq2Seq.load(model), ["Tom voit la mer.", "Jane aime Rome."])]
        for line, text in zip(("Tom voit la mer.", "Jane aime Rome."), expected):
            process.stdin.write(line.encode() + b"\n")
            assert process.stdout.readline().decode() == f"{text}\n"
        process.stdin.close()
        assert process.wait() == 0


def test_attention_is_drawn(model):
    Path("in.txt").write_text("\nTom voit l'Afrique.\nJane aime Rome.\n")
    result = run("seq2seq", "translate", model, "in.txt", "--plot-attention", "a.png")
    assert Path("a.png").read_bytes().startswith(b"\x89PNG") and "drawn a.png, of line 2" in result.stderr
    assert result.stdout.count("\n") == 3
    loaded = Seq2Seq.load(model)
    ((found, *_),) = translate(loaded, ["Tom voit l'Afrique."])
    ax = attention_figure(loaded, "Tom voit l'Afrique.", found).axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["Tom", "voit", "l", "'", "Afrique", "."]
    assert [t.get_text() for t in ax.get_yticklabels()][-1] == "END" and len(ax.get_yticks()) == len(found.ids)
    assert ax.get_aspect() == 1.0


def test_a_word_in_letters_that_the_font_lacks_is_drawn_without_a_warning(model, recwarn):
    Path("in.txt").write_text("Tom voit \u6f22\u5b57.\n", encoding="utf-8")
    run("seq2seq", "translate", model, "in.txt", "--plot-attention", "a.png")
    assert Path("a.png").exists() and not [w for w in recwarn if "Glyph" in str(w.message)]


def test_no_picture_of_empty_lines_alone(model):
    Path("in.txt").write_text("\n \n")
    result = run("seq2seq", "translate", model, "in.txt", "--plot-attention", "a.png", code=2)
    assert result.stdout == "\n\n" and "no line with a symbol" in result.stderr and not Path("a.png").exists()


# ------------------------------------------------------------------------------------------------ score and eval


def test_scores_of_pairs_and_of_candidates(model):
    loaded, pairs = Seq2Seq.load(model), PAIRS[:5]
    Path("some.tsv").write_text("".join(f"{x}\t{y}\n" for x, y in pairs))
    expected = log_probabilities(loaded, *zip(*pairs))
    records = [json.loads(line) for line in run("seq2seq", "score", model, "some.tsv", "--json").stdout.splitlines()]
    assert [r["log_probability"] for r in records] == pytest.approx([one.log_probability for one in expected])
    assert [(r["source"], r["target"]) for r in records] == pairs
    shown = run("seq2seq", "score", model, "some.tsv").stdout.splitlines()
    assert len(shown) == 7 and shown[-1].endswith("all 5 pairs")
    texts = ["Rome the the.", "Tom sees the sea.", "Zebra sees"]
    ranked = run("seq2seq", "score", model, "--source-line", "Tom voit la mer.", *texts)
    assert ranked.stdout.splitlines()[1].endswith("1.0  Tom sees the sea.") and "<UNK>: Zebra" in ranked.stderr


def test_bad_lines_can_be_left_out_as_the_error_says(model):
    Path("bad.tsv").write_text("Tom voit la mer.\tTom sees the sea.\nTom\n")
    for command in ("score", "eval"):
        assert "--skip-bad" in fails("seq2seq", command, model, "bad.tsv")
        assert run("seq2seq", command, model, "bad.tsv", "--skip-bad").stdout


def test_figures_of_a_file_and_of_the_parts_of_training(model):
    pairs = Path(model).with_name("pairs.tsv")
    loaded = Seq2Seq.load(model)
    found = json.loads(run("seq2seq", "eval", model, pairs, "--part", "test", "--beam", 2, "--json").stdout)
    reading = Reading.from_json("here", nn.read(model)[1]["training"]["spelling"])
    test = Parts(*of_files(pairs)(reading)).test
    outputs = [best[0].text for best in translate(loaded, test.sources, Decoding(beam=2))]
    scored = log_probabilities(loaded, test.sources, test.targets)
    nats = -sum(one.log_probability for one in scored) / sum(one.symbols for one in scored)
    assert found["pairs"] == len(test) and found["nats"] == pytest.approx(nats)
    assert found["bleu"]["value"] == pytest.approx(bleu(outputs, test.targets).value)
    assert found["perplexity"] == pytest.approx(math.exp(nats))
    shown = run("seq2seq", "eval", model, pairs, "--part", "test", "--beam", 2).stdout
    assert all(name in shown for name in ("BLEU|", "chrF2|", "exact|", f"{nats:.4f}"))
    Path("b.fr").write_text("".join(f"{x}\n" for x, _ in PAIRS))
    Path("b.en").write_text("".join(f"{y}\n" for _, y in PAIRS))
    files = (pairs,), ("--source", "b.fr", "--target", "b.en")
    first, second = (run("seq2seq", "eval", model, *where, "--beam", 1, "--json").stdout for where in files)
    assert first == second and json.loads(first)["pairs"] == len(PAIRS)


def test_a_part_of_other_pairs_is_none_of_the_training(model):
    Path("pairs.tsv").write_text("".join(f"{x}\t{y}\n" for x, y in PAIRS[3:]))
    assert "[part] got 'pairs.tsv' with" in fails("seq2seq", "eval", model, "pairs.tsv", "--part", "test")


# ------------------------------------------------------------------------------------------------ bad input

BAD_PAIRS = {
    "missing column": (b"a\tb\n" * 6 + b"no tab here\n", "line 7"),
    "empty target": (b"a\tb\nc\t\n" * 3, "line 2"),
    "empty source": (b"\tb\n", "line 1"),
    "no pairs": (b"\n\n", "no pairs"),
    "too few to hold any out": (b"a\tb\n", "validation"),
    "nothing": (None, "No such file"),
    "binary": (b"a\tb\0\n", "binary"),
    "Latin-1": ("caf\xe9\tb\n".encode("latin-1"), "not UTF-8"),
}


@pytest.mark.parametrize("name", BAD_PAIRS)
def test_bad_pairs(folder, name):
    data, said = BAD_PAIRS[name]
    Path("pairs.tsv").unlink()
    if data is not None:
        Path("pairs.tsv").write_bytes(data)
    before = snapshot(folder)
    line = fails("seq2seq", "train", "pairs.tsv", *TINY, "--steps", 1, "--out", "new.safetensors")
    assert said in line and "pairs" in line
    assert snapshot(folder) == before


OPTIONS = {
    "--hidden 13": "even",
    "--hidden 0": "hidden",
    "--preset luong": "one of attention, plain, dates",
    "--preset plain --attention dot": "backward with attention",
    "--level syllable": "syllable",
    "--vocab-size 5 --level char": "with characters",
    "--minutes 1 --steps 2": "one of --minutes",
    "--patience 2 --validations 0": "--patience",
    "--out .": "the name of a file",
    "--out pairs.tsv": "pairs.tsv",
    "--source pairs.tsv": "beside --source",
    "--label-smoothing 1": "label_smoothing",
    "--longest 1": "none of at most 1",
}


@pytest.mark.parametrize("options", OPTIONS)
def test_nonsense_options(folder, options):
    before = snapshot(folder)
    line = fails("seq2seq", "train", "pairs.tsv", *TINY, "--out", "new.safetensors", *options.split())
    assert OPTIONS[options] in line
    assert snapshot(folder) == before


def test_files_of_unequal_length_and_half_a_pair_of_files(folder):
    Path("a.fr").write_text("un\ndeux\n")
    Path("a.en").write_text("one\n")
    before = snapshot(folder)
    assert "2 and 1 lines" in fails("seq2seq", "train", "--source", "a.fr", "--target", "a.en", "--steps", 1)
    assert "--target alone" in fails("seq2seq", "train", "--target", "a.en", "--steps", 1)
    assert "--swap without files" in fails("seq2seq", "train", "--swap", "--steps", 1)
    assert snapshot(folder) == before


def test_models_of_another_kind(model, folder):
    Path("text.txt").write_text("the cat sat on the mat.\n" * 90)
    lm = ["--hidden", 8, "--batch", 4, "--window", 9, "--steps", 1, "--out", "lm.safetensors"]
    run("lm", "train", "--text", "text.txt", *lm)
    run("embed", "train", "text.txt", "--dim", 4, "--epochs", 1, "--min-count", 1, "--out", "v.safetensors")
    before = snapshot(folder)
    for path in ("lm.safetensors", "v.safetensors", "text.txt", "nowhere.safetensors", "."):
        assert str(path) in fails("seq2seq", "translate", path, "text.txt")
        assert str(path) in fails("seq2seq", "score", path, "pairs.tsv")
        assert str(path) in fails("seq2seq", "eval", path, "pairs.tsv")
        assert str(path) in fails("seq2seq", "train", "pairs.tsv", "--resume", path)
    assert "Seq2Seq" in fails("lm", "sample", model)
    assert "m.safetensors" in fails("embed", "nearest", model, "cat")
    assert snapshot(folder) == before


def test_bad_use_of_a_good_model(model, folder):
    Path("empty.txt").touch()
    Path("long.txt").write_text("Tom " * 300)
    Path("short.tsv").write_text("only one column\n")
    plain = Seq2Seq.load(model)
    before = snapshot(folder)
    for arguments, said in {
        ("translate", model, "nowhere.txt"): "No such file",
        ("translate", model, "empty.txt"): "an empty file",
        ("translate", model, "pairs.tsv", "--beam", "0"): "beam",
        ("translate", model, "pairs.tsv", "--n-best", "9"): "wider --beam",
        ("translate", model, "pairs.tsv", "--plot-attention", "a.gif"): "'.gif'",
        ("translate", model, "pairs.tsv", "--plot-attention", "nowhere/a.png"): "no folder",
        ("translate", model, "long.txt", "--plot-attention", "a.png", "--max-length", "5"): "200 at most",
        ("score", model, "short.tsv"): "line 1",
        ("score", model): "--source-line",
        ("score", model, "--source-line", "", "a"): "empty",
        ("score", model, "--source-line", "a"): "translations",
        ("eval", model): "PAIRS",
        ("eval", model, "pairs.tsv", "--n-best", "2"): "n-best",
        ("eval", model, "short.tsv"): "line 1",
    }.items():
        assert said in fails("seq2seq", *arguments), arguments
    bad = given(b"Tom voit\n\xe9\n", "seq2seq", "translate", model, "-")
    assert bad.exit_code == 2 and "byte 0xe9 in line 2" in bad.stderr and "Traceback" not in bad.stderr
    assert snapshot(folder) == before and plain.config.attention != "none"


def test_a_model_without_attention_draws_none(folder):
    train("--steps", 1, "--preset", "plain", "--validations", 0)
    assert "without attention" in fails(
        "seq2seq", "translate", "m.safetensors", "pairs.tsv", "--plot-attention", "a.png"
    )
    assert not Path("a.png").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions")
def test_a_folder_that_cannot_be_written(folder):
    Path("locked").mkdir()
    Path("locked").chmod(0o500)
    assert "locked" in fails("seq2seq", "train", "pairs.tsv", *TINY, "--steps", 10**9, "--out", "locked/m.safetensors")
    Path("locked").chmod(0o700)


def test_dates_are_parts_of_their_own(monkeypatch):
    few = {"training": (3000, 1), "validation": (100, 2), "test": (100, 3)}
    monkeypatch.setattr("minigrad.models.seq2seq.run.DATES", few)
    parts = of_dates()
    assert not {*parts.training.targets} & {*parts.validation.targets, *parts.test.targets}
