"""How the tests call the command line, and a folder with a text and a model."""

import builtins
from pathlib import Path

import pytest
from click.testing import CliRunner

from minigrad.cli import main

TEXT = "the cat sat on the mat, and the dog saw the cat.\n" * 30
TINY = ["--hidden", "12", "--embedding", "6", "--batch", "3", "--window", "7", "--warmup", "5"]


@pytest.fixture(name="folder")
def folder_fixture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture(name="without_matplotlib")
def without_matplotlib_fixture(monkeypatch):
    """As where it is not installed."""
    real = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def fails(*arguments, code=2):
    """The one line of an error; whatever it says, it is no traceback."""
    result = run(*arguments, code=code)
    assert result.stdout == "" and "Traceback" not in result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert sum(text.startswith("error:") for text in result.stderr.splitlines()) == 1
    return line


def train(*arguments, out="m.safetensors", code=0):
    return run("lm", "train", "--text", "text.txt", *TINY, "--out", out, *arguments, code=code)


def snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(name="model")
def model_fixture(folder):
    train("--steps", "5", "--validations", "0")
    return "m.safetensors"
