"""--device: a machine without a GPU says so in one line before anything is read or written; the emulated GPU trains."""

import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from cli_cases import fails, folder_fixture, run, snapshot, train  # noqa: F401

from minigrad.kernels.cuda import driver, matmul, present
from minigrad.models import LanguageModel
from minigrad.models.lm import commands

COMMANDS = [
    "lm train", "lm train --preset char-rnn --text nothing.txt", "lm sample MODEL", "lm score MODEL", "lm eval MODEL",
    "lm complete MODEL the", "seq2seq train", "seq2seq translate MODEL -", "seq2seq score MODEL", "seq2seq eval MODEL",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_gpu_one_line_and_exit_2(folder, monkeypatch, command):
    def card():
        return present.Problem("no NVIDIA driver (libcuda.so.1)", "an NVIDIA GPU with its driver", "install it")

    monkeypatch.setattr(present, "card", card)
    driver.backend.cache_clear()
    before = snapshot(folder)
    words = command.split()
    line = fails(*words, "--device", "cuda")
    assert line == (
        "error: [cuda] got no NVIDIA driver (libcuda.so.1), expected an NVIDIA GPU with its driver; install it"
    )
    assert snapshot(folder) == before
    assert "no such file" not in line.lower() and fails(*words[:2], "--device", "gpu").startswith(
        "error: Invalid value"
    )


@pytest.mark.skipif(
    not find_spec("greenlet"), reason="the emulated device needs greenlet: pip install 'minigrad[simt]'"
)
def test_an_unknown_kind_of_product_is_said_before_anything_is_read(folder, monkeypatch):
    monkeypatch.setattr(matmul, "config", replace(matmul.config, matmul="fp16"))
    before = snapshot(folder)
    line = fails("lm", "train", "--device", "cuda-sim", "--text", "nothing.txt")
    assert line == "error: [MINIGRAD_MATMUL] got 'fp16', expected one of: float32, tf32, bf16, cublas"
    assert snapshot(folder) == before


def test_info_says_what_there_is_and_what_mends_what_is_missing(monkeypatch):
    monkeypatch.setattr(present, "card", lambda: present.Problem("no NVIDIA driver", "one", "install it"))
    monkeypatch.setattr(present, "packages", lambda driver=13: present.Problem("no numba-cuda", "it", "pip install it"))
    shown = run("info").stdout.splitlines()
    assert "cuda                   no NVIDIA driver; install it" in shown
    assert "cuda kernels           no numba-cuda; pip install it" in shown
    monkeypatch.setattr(present, "packages", lambda driver=13: None)
    assert "cuda kernels           compiled by numba-cuda" in run("info").stdout


@pytest.mark.cuda_sim
@pytest.mark.skipif(
    not find_spec("greenlet"), reason="the emulated device needs greenlet: pip install 'minigrad[simt]'"
)
def test_training_and_scores_on_the_emulated_gpu_are_those_of_the_cpu(folder, monkeypatch):
    monkeypatch.setattr(commands.train, "print_sample", lambda *args: None)  # 500 characters, one after another
    size = ("--hidden", 5, "--embedding", 3, "--batch", 2, "--window", 4, "--steps", 3, "--validations", 0)
    found = {}
    for device in ("cpu", "cuda-sim"):
        out = f"{device}.safetensors"
        train(*size, "--device", device, out=out)
        model = LanguageModel.load(out)
        assert model.device == "cpu"
        scores = run("lm", "score", out, "the cat sat", "--json", "--device", device).stdout
        found[device] = [p.numpy() for p in model.parameters()], json.loads(scores)["log_probability"]
    for a, b in zip(found["cpu"][0], found["cuda-sim"][0], strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-4, atol=2e-5)
    assert found["cuda-sim"][1] == pytest.approx(found["cpu"][1], rel=1e-4)


@pytest.mark.cuda_sim
def test_a_stopped_training_names_its_device():
    from minigrad.models.devices import chosen

    context = type("Context", (), {"params": {"device_name": "cuda-sim"}})
    assert chosen(context) == ["--device", "cuda-sim"]
    context.params["device_name"] = "cpu"
    assert chosen(context) == []
