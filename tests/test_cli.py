"""The command line: training that is repeated, killed, interrupted and resumed; sampling and figures."""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_cases import TEXT, TINY, fails, folder_fixture, model_fixture, run, snapshot, train  # noqa: F401

from minigrad import cli, nn
from minigrad.models import LanguageModel
from minigrad.models.lm import commands
from minigrad.models.lm.commands import lm
from minigrad.models.lm.presets import PRESETS, preset
from minigrad.models.place import free_name
from minigrad.models.text import Text, default_text
from minigrad.models.training import Trainer


def start(*arguments):
    """The same in a process of its own."""
    command = [
        sys.executable,
        "-c",
        "from minigrad.cli import main; main()",
        "lm",
        "train",
        "--text",
        "text.txt",
        *TINY,
    ]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(process, path, least, seconds=60):
    """Until the checkpoint holds a step of at least ``least``; it can be read at every moment."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if Path(path).exists() and (step := nn.read(path)[1]["training"]["step"]) >= least:
            return step
        time.sleep(0.005)
    raise AssertionError(f"no step {least} in {path}: {process.communicate()}")


# ------------------------------------------------------------------------------------------------ training


def test_one_command_trains_and_writes(folder):
    result = train("--steps", "30", "--validations", "3", "--prompt", "the ")
    assert len(result.stdout) >= 505 and result.stdout.lstrip().startswith("the ")
    lines = result.stderr.splitlines()
    assert sum("validation" in line for line in lines) == 3  # at 1/3, at 2/3 and at the end
    assert "saved m.safetensors" in lines
    more = shlex.split(lines[-1].partition(": ")[2])
    assert more[:4] == ["minigrad", "lm", "sample", "m.safetensors"]
    run(*more[1:])
    records = [json.loads(line) for line in Path("m.metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [10, 20, 30] and [r.get("final", False) for r in records] == [
        False,
        False,
        True,
    ]
    assert all(math.isfinite(r["validation_loss"]) for r in records)
    shown = json.loads(run("lm", "eval", "m.safetensors", "--text", "text.txt", "--validation", "--json").stdout)
    assert shown["nats"] == pytest.approx(records[-1]["validation_loss"], rel=1e-6)


def test_one_seed_is_one_file(folder):
    train("--steps", "20", "--dropout", "0.2", "--seed", "5", out="a.safetensors")
    train(
        "--steps",
        "20",
        "--dropout",
        "0.2",
        "--seed",
        "5",
        "--validations",
        "7",
        "--save-every",
        "0",
        out="b.safetensors",
    )
    train("--steps", "20", "--dropout", "0.2", "--seed", "6", out="c.safetensors")
    a, b, c = (Path(f"{name}.safetensors").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_every_cell_by_epochs_and_by_time(folder, cell):
    train("--cell", cell, "--epochs", "1", "--layers", "2")
    assert LanguageModel.load("m.safetensors").config.cell == cell
    began = time.monotonic()
    train("--cell", cell, "--minutes", "0.01")
    assert time.monotonic() - began < 10


def test_without_a_file_it_learns_from_what_python_carries(folder, monkeypatch):
    short = Text("pydoc_data.topics", default_text().content[:3000])
    monkeypatch.setattr(commands, "default_text", lambda: short)
    result = run("lm", "train", *TINY, "--steps", "2", "--validations", "0")
    assert "pydoc_data.topics" in result.stderr and Path("runs/lm.safetensors").exists()
    run("lm", "train", *TINY, "--steps", "1", "--validations", "0")  # a default never replaces anything
    assert Path("runs/lm-2.safetensors").exists()


def test_kill_9_and_resume_equals_never_interrupted(folder):
    arguments = ["--steps", "150", "--dropout", "0.2", "--layers", "2", "--save-every", "0", "--seed", "3"]
    process = start(*arguments, "--out", "killed.safetensors")
    try:
        wait_for_step(process, "killed.safetensors", 10)
    finally:
        process.kill()
        process.communicate()
    step = nn.read("killed.safetensors")[1]["training"]["step"]
    assert 10 <= step < 150
    run("lm", "train", "--text", "text.txt", "--resume", "killed.safetensors")
    train(*arguments, out="whole.safetensors")
    assert Path("killed.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    records = [json.loads(line) for line in Path("killed.metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [*range(15, 150, 15), 150]


def test_interrupt_saves_and_says_how_to_go_on(folder):
    process = start("--steps", "100000", "--save-every", "0.2", "--out", "m.safetensors")
    try:
        wait_for_step(process, "m.safetensors", 5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    step = nn.read("m.safetensors")[1]["training"]["step"]
    *_, said, command = err.splitlines()
    assert said == f"stopped after {step:,} steps, saved m.safetensors"
    arguments = shlex.split(command.partition("go on with: minigrad ")[2])
    result = run(*arguments, "--steps", step + 3)
    assert f"going on after step {step:,}" in result.stderr
    assert nn.read("m.safetensors")[1]["training"]["step"] == step + 3


PROGRAM = Path(cli.__file__).parent / "program" / "__init__.py"
CTRL_C_AT_AN_IMPORT = """
import os, runpy, signal, sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
_, module, program, *arguments = sys.argv
sys.argv = ["minigrad", *arguments]
sys.meta_path.insert(0, Finder)
runpy.run_path(program, run_name="__main__")
"""


@pytest.mark.parametrize("module", ["numba", "minigrad.cli.group", "minigrad.models.lm.presets"])
def test_an_interrupt_while_it_imports_is_one_line(folder, module):
    before = snapshot(folder)
    command = [sys.executable, "-c", CTRL_C_AT_AN_IMPORT, module, PROGRAM, "lm", "train", "--text", "text.txt"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "\nerror: interrupted\n")
    assert snapshot(folder) == before


def test_an_interrupt_while_it_compiles_ends_at_once_and_writes_nothing(folder, monkeypatch):
    before, step = snapshot(folder), Trainer.step

    def interrupted(self, progress):
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, progress)

    monkeypatch.setattr(Trainer, "step", interrupted)
    assert "interrupted" in fails("lm", "train", "--text", "text.txt", *TINY, "--steps", 9, code=130)
    assert snapshot(folder) == before


def test_resuming_a_finished_run_changes_nothing_and_a_larger_budget_goes_on(folder):
    train("--steps", "10")
    before = Path("m.safetensors").read_bytes()
    again = train("--steps", "10", "--resume", "m.safetensors")  # the whole command again, with --resume
    assert "finished before, at step 10" in again.stderr
    assert Path("m.safetensors").read_bytes() == before
    train("--steps", "15", "--resume", "m.safetensors", out="longer.safetensors")
    assert Path("m.safetensors").read_bytes() == before
    assert nn.read("longer.safetensors")[1]["training"]["step"] == 15


def test_a_new_training_keeps_the_model_that_was_there(folder):
    first = train("--steps", "4", "--validations", "2")
    assert "kept" not in first.stderr
    files = ["m.safetensors", "m.metrics.jsonl"]
    before = [Path(name).read_bytes() for name in files]
    second = train("--steps", "6", "--validations", "2", "--save-every", "0", "--cell", "gru")
    assert "the model that is in m.safetensors will be kept as m.old.safetensors" in second.stderr
    assert [Path(name.replace("m.", "m.old.", 1)).read_bytes() for name in files] == before
    assert LanguageModel.load("m.safetensors").config.cell == "gru"
    more = train("--steps", "8", "--resume", "m.safetensors")  # goes on with what is there
    assert "kept" not in more.stderr and LanguageModel.load("m.old.safetensors").config.cell == "lstm"
    other = train("--steps", "9", "--validations", "0", "--resume", "m.old.safetensors")
    assert "m.old.safetensors" in other.stderr and LanguageModel.load("m.old.safetensors").config.cell == "gru"
    assert [json.loads(line)["step"] for line in Path("m.metrics.jsonl").read_text().splitlines()] == [9]
    assert {p.name for p in folder.iterdir()} == {"text.txt", *files, *(f.replace("m.", "m.old.", 1) for f in files)}


def test_metrics_of_steps_that_run_again_are_dropped(folder):
    train("--steps", "10", "--validations", "5")
    path = Path("m.metrics.jsonl")
    path.write_text(path.read_text() + '{"step": 11, "x": 1}\n{"step": 12, "half')
    train("--steps", "20", "--validations", "2", "--resume", "m.safetensors")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [r["step"] for r in records] == [2, 4, 6, 8, 20]


def test_validations_do_not_eat_a_budget_of_minutes(folder, monkeypatch):
    took, evaluate = [], LanguageModel.evaluate

    def slow(*arguments, **options):
        began = time.monotonic()
        time.sleep(0.3)
        found = evaluate(*arguments, **options)
        took.append(time.monotonic() - began)
        return found

    train("--steps", "2", "--validations", "0")  # compiles
    monkeypatch.setattr(LanguageModel, "evaluate", slow)
    began = time.monotonic()
    train("--minutes", "0.02", "--validations", "10")  # 1.2 seconds
    assert time.monotonic() - began - sum(took) > 1.2 and len(took) == 2  # on the way, and at the end
    records = [json.loads(line) for line in Path("m.metrics.jsonl").read_text().splitlines()]
    assert records[0]["seconds"] < 0.5 and 1.2 <= records[-1]["seconds"] < 1.4


@pytest.mark.parametrize("out", ["m.safetensors", "other.safetensors"])
def test_time_goes_on_where_a_training_goes_on(folder, out):
    train("--steps", "10", "--validations", "5")
    path = Path("m.metrics.jsonl")
    records = [{**json.loads(line), "seconds": 1000.0 + k} for k, line in enumerate(path.read_text().splitlines())]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    train("--steps", "20", "--validations", "2", "--resume", "m.safetensors", out=out)
    last = json.loads(Path(out).with_suffix(".metrics.jsonl").read_text().splitlines()[-1])
    assert last["final"] and 1004 < last["seconds"] < 1104


# ------------------------------------------------------------------------------------------------ sample, eval, score


def test_samples(model):
    one = run("lm", "sample", model, "--length", 40, "--seed", 7, "--prompt", "the cat").stdout
    assert one.startswith("the cat") and len(one) == 7 + 40 + 1
    assert one == run("lm", "sample", model, "--length", 40, "--seed", 7, "--prompt", "the cat").stdout
    assert one != run("lm", "sample", model, "--length", 40, "--seed", 8, "--prompt", "the cat").stdout
    assert run("lm", "sample", model, "--length", 0).stdout == "\n"
    cold = [run("lm", "sample", model, "--length", 20, "--temperature", 0, "--seed", s).stdout for s in (1, 2)]
    assert cold[0] == cold[1]


def test_figures_agree(model):
    found = json.loads(run("lm", "eval", model, "--text", "text.txt", "--json").stdout)
    assert found["characters"] == len(TEXT) - 1
    assert found["bits"] == pytest.approx(found["nats"] / math.log(2))
    assert found["perplexity"] == pytest.approx(math.exp(found["nats"]))
    loaded = LanguageModel.load(model)
    assert found["nats"] == pytest.approx(loaded.evaluate(loaded.vocabulary.encode(TEXT)))
    assert f"{found['bits']:.4f}" in run("lm", "eval", model, "--text", "text.txt").stdout


def test_the_root_command():
    assert run("--version").stdout.startswith("minigrad ")
    assert "lm" in run("--help").stdout and "info" in run().stdout
    assert "train" in run("lm").stdout
    shown = run("info").stdout
    for word in ("numba", "threads", "vectors", "kernel cache", "MINIGRAD_THREADS", "extra 'plot'"):
        assert word in shown
    assert (
        "--help" in fails("nothing")
        and "--help" in fails("lm", "nothing")
        and "hidden" in fails("lm", "train", "--hidden", "x")
    )


def test_the_root_command_imports_no_model():
    code = "import sys; from minigrad.cli import main; main(['info'], standalone_mode=False)"
    code += "; print('minigrad.models' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "False"


OWN = """
import minigrad as mg

def leaky(p, x, h):
    h = 0.9 * h + 0.1 * mg.tanh(x @ p.W.T + h @ p.U.T + p.b)
    return h, h
"""


def test_a_cell_in_a_file_of_the_user(folder):
    Path("cells").mkdir()
    file = Path("cells/own.py")
    file.write_text(OWN)
    train("--cell", "cells/own.py:leaky", "--steps", "4", "--validations", "0", "--layers", "2")
    train("--cell", "cells/own.py:leaky", "--steps", "6", "--validations", "0", "--resume", "m.safetensors")
    for command in (["sample", "m.safetensors", "--length", 5], ["gates", "m.safetensors", "cat"]):
        assert run("lm", *command).stdout
    file.write_text("raise RuntimeError('this is not to be run')")
    line = fails("lm", "score", "m.safetensors", "the")
    assert "m.safetensors" in line and "no 'leaky'" in line
    file.unlink()
    line = fails("lm", "score", "m.safetensors", "the")
    assert "m.safetensors" in line and "'cells/own.py', which is no file here" in line
    assert "no file here" in fails("lm", "train", "--text", "text.txt", *TINY, "--cell", "cells/own.py:leaky")
    for cell in ("lstn", "../own.py:leaky", "own.txt:leaky", ":", str(file.resolve()) + ":leaky"):
        assert "FILE.py:NAME" in fails("lm", "train", "--text", "text.txt", *TINY, "--cell", cell)


# ------------------------------------------------------------------------------------------------ presets


def test_a_preset_sets_what_is_not_given(folder):
    sizes = ["--hidden", "8", "--embedding", "6", "--batch", "2", "--window", "7", "--steps", "4", "--validations", "1"]
    for name in PRESETS:
        run("lm", "train", "--text", "text.txt", "--preset", name, *sizes, "--out", f"{name}.safetensors")
        config = LanguageModel.load(f"{name}.safetensors").config
        assert (config.hidden, config.layers) == (8, PRESETS[name]["layers"])
        assert config.weight_dropout == PRESETS[name].get("weight_dropout", 0.0)


def test_every_setting_of_a_preset_is_an_option():
    options = {p.name for p in lm.get_command(None, "train").params}
    for name in PRESETS:
        assert preset(name).keys() <= options


def test_an_unknown_preset_names_the_nearest(folder):
    assert "perhaps zaremba-small" in fails("lm", "train", "--text", "text.txt", "--preset", "zaremba-smal")
    assert "'--hidden'" in fails("lm", "train", "--hiden", "3")


def test_patience_ends_a_run_early_with_its_best_model(folder):
    options = ["--steps", "60", "--validations", "60", "--patience", "3", "--lr", "0.5", "--warmup", "0"]
    fails("lm", "train", "--text", "text.txt", *options, "--epochs", "9")  # two budgets
    result = train(*options, out="p.safetensors")
    records = [json.loads(line) for line in Path("p.metrics.jsonl").read_text().splitlines()]
    found = [r["validation_loss"] for r in records if not r.get("final")]
    assert len(found) < 60 and min(found) == found[-4]
    assert records[-1]["validation_loss"] < found[-1], result.stderr


def parameters_of(path):
    return {name: a for name, a in nn.read(path)[0].items() if not name.startswith("training.")}


@pytest.mark.parametrize("stop", [2, 6])
def test_where_validations_decide_a_cut_changes_nothing(folder, monkeypatch, stop):
    """Also one on a step that is due to be validated (6)."""
    judged = ["--average", "nt-asgd", "--stall", "1", "--patience", "50", "--optimizer", "sgd", "--lr", "2.0"]
    options = [*judged, "--steps", "30", "--validations", "10", "--save-every", "0"]
    train(*options, out="whole.safetensors")
    step = Trainer.step

    def interrupted(self, progress):
        done = step(self, progress)
        if done.number == stop:
            os.kill(os.getpid(), signal.SIGINT)
        return done

    monkeypatch.setattr(Trainer, "step", interrupted)
    train(*options, out="cut.safetensors", code=130)
    monkeypatch.setattr(Trainer, "step", step)
    run("lm", "train", "--resume", "cut.safetensors", "--text", "text.txt")
    whole, cut = parameters_of("whole.safetensors"), parameters_of("cut.safetensors")
    for name, a in whole.items():
        np.testing.assert_array_equal(cut[name], a, err_msg=name)
    assert "validations decide" in fails(
        "lm", "train", "--resume", "cut.safetensors", "--text", "text.txt", "--validations", "3"
    )


def test_a_mean_at_the_end_does_not_change_what_is_resumed(folder):
    options = ["--average", "asgd", "--schedule", "hold", "--validations", "0"]
    train(*options, "--steps", "20", out="whole.safetensors")
    train(*options, "--steps", "10", out="half.safetensors")
    run("lm", "train", "--resume", "half.safetensors", "--text", "text.txt", "--steps", "20", "--validations", "0")
    whole, half = parameters_of("whole.safetensors"), parameters_of("half.safetensors")
    for name, a in whole.items():
        np.testing.assert_array_equal(half[name], a, err_msg=name)


def test_patience_begins_anew_with_a_new_budget(folder):
    options = ["--validations", "30", "--patience", "2", "--lr", "0.5", "--warmup", "0"]
    train(*options, "--steps", "60", out="p.safetensors")
    before = len(Path("p.metrics.jsonl").read_text().splitlines())
    run("lm", "train", "--resume", "p.safetensors", "--text", "text.txt", "--steps", "90")
    assert len(Path("p.metrics.jsonl").read_text().splitlines()) > before + 1


def test_a_name_is_taken_when_a_run_begins(folder):
    first = free_name(Path("runs/lm.safetensors"))
    run("lm", "train", "--text", "text.txt", *TINY, "--steps", "1", "--validations", "0")
    assert first.read_bytes() == b"" and Path("runs/lm-2.safetensors").stat().st_size
    fails("lm", "train", "--text", "text.txt", "--prompt", "#", *TINY)
    assert not Path("runs/lm-3.safetensors").exists()


def test_a_flag_of_a_preset_can_be_taken_back(folder):
    sizes = ["--hidden", "8", "--embedding", "6", "--batch", "2", "--window", "7", "--steps", "2", "--validations", "1"]
    options = ["--preset", "awd-lstm", "--softmax", "adaptive", "--no-tied", "--out", "a.safetensors"]
    run("lm", "train", "--text", "text.txt", *sizes, *options)
    assert not LanguageModel.load("a.safetensors").config.tied
    assert "a preset" in fails("lm", "train", "--text", "text.txt", "--resume", "a.safetensors", "--preset", "char-rnn")
