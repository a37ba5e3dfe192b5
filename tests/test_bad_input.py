"""Bad input at the command line: one clear line, exit code 2, no traceback, and nothing lost or half-written."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_cases import TEXT, TINY, fails, folder_fixture, model_fixture, run, snapshot, train  # noqa: F401

from minigrad import nn
from minigrad.models import LanguageModel
from minigrad.models.lm.run import LanguageRun

TEXTS = {
    "missing": (None, "No such file"),
    "empty": (b"", "empty"),
    "binary": (b"\x7fELF\0\0\1", "binary"),
    "latin1": ("caf\xe9 ".encode("latin-1") * 1000, "not UTF-8"),
    "utf16": (TEXT.encode("utf-16"), "iconv -f UTF-16"),
    "short": (b"abc", "longer text"),
    "one": (b"a" * 5000, "two different"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_bad_text(folder, name):
    data, said = TEXTS[name]
    if data is not None:
        Path("bad.txt").write_bytes(data)
    before = snapshot(folder)
    assert said in fails("lm", "train", "--text", "bad.txt", *TINY, "--steps", 1, "--out", "new.safetensors")
    assert snapshot(folder) == before


def test_a_character_to_validate_that_training_never_saw(folder):
    Path("other.txt").write_text("the cat saw Ω.\n")
    arguments = ["lm", "train", "--text", "text.txt", "--validation", "other.txt", *TINY, "--steps", 1]
    before = snapshot(folder)
    line = fails(*arguments)
    assert "other.txt" in line and "'Ω'" in line and "at position 12" in line and "--min-count 2" in line
    assert snapshot(folder) == before
    found = run(*arguments, "--min-count", 2, "--out", "new.safetensors")
    assert "15 characters, 1 of them unknown" in found.stderr
    assert "Ω" not in LanguageModel.load("new.safetensors").vocabulary.symbols


def test_a_folder_or_a_device_is_no_text(folder):
    assert "a folder" in fails("lm", "train", "--text", ".", *TINY)
    assert "a device" in fails("lm", "train", "--text", os.devnull, *TINY)


OPTIONS = """
--hidden 0|--hidden -3|--hidden 2.5|--hidden x|--hidden 1000000|--hidden 99999999999999999999|--layers 0
--embedding 0|--batch 0|--window -1|--lr nan|--lr 0|--lr inf|--lr -1|--dropout 1|--dropout nan|--dropout -0.1|--clip 0
--clip nan|--minutes 0|--minutes nan|--minutes inf|--epochs 0|--steps 0|--steps -5|--steps 1 --minutes 1|--seed -1
--tied|--unknown|--cell transformer|--validations -1|--validation-chars 1|--save-every -1|--save-every nan|--prompt Ω
"""


@pytest.mark.parametrize("options", OPTIONS.strip().replace("\n", "|").split("|"))
def test_nonsense_options(folder, options):
    before = snapshot(folder)
    fails("lm", "train", "--text", "text.txt", *TINY, "--out", "new.safetensors", *options.split())
    assert snapshot(folder) == before


CONFLICTS = {
    "--preset zaremba-small --level char": "--level char with --preset zaremba-small",
    "--preset awd-lstm --softmax adaptive": "--no-tied",
    "--average nt-asgd --validations 0 --steps 3": "nt-asgd",
    "--patience 2 --validations 0 --steps 3": "--patience",
    "--steps 3 --out .": "the name of a file",
    "--steps 3 --out /": "the name of a file",
    "--steps 3 --validation=": "No such file",
}


@pytest.mark.parametrize("options", CONFLICTS)
def test_what_does_not_go_together(folder, options):
    before = snapshot(folder)
    assert CONFLICTS[options] in fails("lm", "train", "--text", "text.txt", *TINY, *options.split())
    assert snapshot(folder) == before


def _pickle(path):
    path.write_bytes(pickle.dumps({"state": 1}))


MODELS = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "text": lambda path: path.write_text(TEXT),
    "pickle": _pickle,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("name", MODELS)
def test_bad_models(model, name):
    MODELS[name](Path(model))
    before = snapshot(Path())
    for command in (["sample", model], ["eval", model, "--text", "text.txt"], ["score", model, "the"],
                    ["train", "--text", "text.txt", "--resume", model]):  # fmt: skip
        assert model in fails("lm", *command)
    assert snapshot(Path()) == before


def test_bad_use_of_a_good_model(model):
    Path("other.txt").write_text(TEXT.replace("cat", "dog"))
    Path("foreign.txt").write_text("Ωmega")
    assert "'Ω'" in fails("lm", "sample", model, "--prompt", "Ω")
    assert "'Ω'" in fails("lm", "score", model, "the", "Ω")
    assert "'Ω'" in fails("lm", "eval", model, "--text", "foreign.txt")
    for options in ("--temperature nan", "--temperature inf", "--temperature -1", "--top-k 0", "--top-p 1.5",
                    "--top-p 0", "--length -1", "--count 0", "--seed -1"):  # fmt: skip
        assert options.split()[0][2:5] in fails("lm", "sample", model, *options.split())
    Path("pairs.txt").write_text("kind\tthe cat\tthe Ω\n")
    line = fails("lm", "score", model, "--pairs", "pairs.txt")
    assert "pairs.txt: the Ω" in line and "position 4" in line
    assert "'lstn'" in fails("lm", "agreement", "--cell", "lstm", "--cell", "lstn")  # before anything is trained
    assert "gain" in fails("lm", "gradients", model, "--text", "text.txt", "--gain", "nan")
    assert "No such file" in fails("lm", "eval", model, "--text", "nowhere.txt")
    before = Path(model).read_bytes()
    assert "--text" in fails("lm", "train", "--resume", model)
    assert "text.txt" in fails("lm", "train", "--resume", model, "--text", "other.txt")
    assert "keeps its settings" in fails("lm", "train", "--resume", model, "--text", "text.txt", "--hidden", "13")
    LanguageModel.load(model).save("bare.safetensors")
    assert "without the state" in fails("lm", "train", "--resume", "bare.safetensors", "--text", "text.txt")
    assert Path(model).read_bytes() == before


def test_the_output_is_checked_before_training(folder):
    Path("folder").mkdir()
    Path("notes.safetensors").write_text("not to be lost")
    before = snapshot(folder)
    for out in ("folder", "notes.safetensors", "text.txt", "text.txt/m.safetensors", "/proc/nowhere/m.safetensors"):
        arguments = ["lm", "train", "--text", "text.txt", *TINY, "--steps", 1000000, "--out", out]
        fails(*arguments)
    assert snapshot(folder) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder(folder):
    Path("locked").mkdir()
    Path("locked").chmod(0o555)
    try:
        assert "locked" in fails(
            "lm", "train", "--text", "text.txt", *TINY, "--steps", 1000000, "--out", "locked/m.safetensors"
        )
    finally:
        Path("locked").chmod(0o755)


LIMITED = """
import resource, sys
from minigrad.cli import main
from minigrad.models.lm.run import LanguageRun
def full():
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))
if sys.argv[1] == "before":
    full()
else:
    check = LanguageRun.check_output
    LanguageRun.check_output = lambda run: (check(run), full())
main(sys.argv[2:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
@pytest.mark.parametrize("when", ["before", "within"])
def test_a_full_disk_keeps_what_was_there(model, when):
    before = snapshot(Path())
    arguments = ["lm", "train", "--text", "text.txt", *TINY, "--steps", "8", "--validations", "0", "--out", model]
    found = subprocess.run([sys.executable, "-c", LIMITED, when, *arguments], capture_output=True, text=True)
    assert found.returncode == 2 and "Traceback" not in found.stderr
    assert found.stderr.splitlines()[-1].startswith("error: [write") and "too large" in found.stderr
    assert ("probe" in found.stderr) == (when == "before")
    assert snapshot(Path()) == before


def test_nan_in_training_keeps_the_last_checkpoint(model):
    before = Path(model).read_bytes()
    line = fails("lm", "train", "--text", "text.txt", *TINY, "--steps", 50, "--lr", "1e38", "--out", model)
    assert "smaller --lr" in line and Path(model).read_bytes() == before
    weights, meta = nn.read(model)
    weights["output.weight"][:] = np.float32(3e38)
    nn.write("big.safetensors", weights, meta)
    before = Path("big.safetensors").read_bytes()
    assert "holds step 5" in fails("lm", "train", "--text", "text.txt", "--resume", "big.safetensors", "--steps", 9)
    assert Path("big.safetensors").read_bytes() == before


CELLS = """
import minigrad as mg

def leaky(p, x, h):
    h = p.decay * h + x
    return h, h

def turned(p, x, h):
    return mg.flip(h, -1), h
"""


def test_explain_at_the_command_line(folder):
    Path("own.py").write_text(CELLS)
    Path("broken.py").write_text("import nothing_of_this_name")
    plan = run("explain", "lstm", "--part", "plan").stdout
    assert plan.startswith("Plan\nbefore the loop") and "Kernels" not in plan
    own = run("explain", "own.py:leaky", "--input", 2, "--state", 2, "--param", "decay=").stdout
    assert "%4 = add(%3, %0)" in own and "def forward(" in own
    assert "operation 'flip'" in run("explain", "own.py:turned").stdout
    for arguments, said in {
        ("transformer",): "one of rnn, gru",
        ("own.py:missing",): "no function 'missing'",
        ("own.py:leaky",): "no attribute 'decay'",
        ("broken.py:cell",): "nothing_of_this_name",
        ("missing.py:cell",): "FILE.py:FUNCTION",
        ("own.py:leaky", "--param", "decay=3xq"): "NAME=SIZES",
        ("own.py:leaky", "--param", "decay=0"): "NAME=SIZES",
        ("own.py:leaky", "--input", 5, "--param", "decay="): "shapes that broadcast",
        ("lstm", "--state", 0): "0",
        ("lstm", "--part", "all"): "all",
    }.items():
        assert said in fails("explain", *arguments)


def test_an_interrupt_in_the_last_validation_says_that_the_model_is_saved(folder, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(LanguageRun, "conclusion", interrupted)
    said = train("--steps", 3, "--validations", 0, code=130).stderr
    assert "saved m.safetensors, trained to its end" in said and said.endswith("error: interrupted\n")
    assert LanguageModel.load_for_training("m.safetensors")[1][1]["step"] == 3


def test_a_loss_beyond_exp_is_a_line_and_no_traceback(folder):
    """After the one step at such a rate logits are so far apart that exp(loss) is no float."""
    result = run("lm", "train", "--text", "text.txt", *TINY, "--steps", 1, "--warmup", 0, "--lr", 1e6, "--seed", 2)
    assert "perplexity inf" in result.stderr and Path("runs/lm.safetensors").exists()
