"""The adding problem and the copy task: what they draw, what guessing costs, and that a short training learns."""

import json
import math

import numpy as np
import pytest
from cli_cases import fails, run
from hypothesis import given
from hypothesis import strategies as st

from minigrad import nn
from minigrad.models.tasks import BLANK, SIGN, SPAN, SYMBOLS, TASKS, TaskConfig, TaskModel, adding, copying, learn

seeds = st.integers(0, 2**40)


@given(st.integers(2, 50), st.integers(1, 8), seeds)
def test_the_sum_is_that_of_one_marked_number_of_each_half(length, batch, seed):
    x, y = adding(length, batch, seed)
    assert x.shape == (length, batch, 2) and y.shape == (batch, 1) and x.dtype == y.dtype == np.float32
    numbers, marks = x[..., 0], x[..., 1]
    assert ((numbers >= 0) & (numbers < 1)).all() and set(np.unique(marks)) <= {0.0, 1.0}
    half = length // 2
    assert (marks[:half].sum(0) == 1).all() and (marks[half:].sum(0) == 1).all()
    np.testing.assert_allclose((numbers * marks).sum(0), y[:, 0], rtol=1e-6)


@given(st.integers(1, 50), st.integers(1, 8), seeds)
def test_a_copy_is_the_ten_symbols_behind_the_sign(length, batch, seed):
    x, y = copying(length, batch, seed)
    assert x.shape == y.shape == (length + 2 * SPAN, batch)
    np.testing.assert_array_equal(y[-SPAN:], x[:SPAN])
    assert (x[:SPAN] < SYMBOLS).all() and (y[:-SPAN] == BLANK).all() and (x[-SPAN:] == BLANK).all()
    assert (x[SPAN + length - 1] == SIGN).all() and (x == SIGN).sum() == batch


@pytest.mark.parametrize("draw", [adding, copying])
def test_one_seed_is_one_batch(draw):
    for a, b, c in zip(draw(9, 4, 1), draw(9, 4, 1), draw(9, 4, 2)):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


def test_guessing_costs_what_the_baseline_says():
    _, y = adding(20, 200_000, 0)
    assert np.square(y - 1).mean() == pytest.approx(TASKS["adding"].baseline(20), rel=0.01)
    x, y = copying(30, 1000, 0)
    guess = np.where(np.arange(len(x)) < len(x) - SPAN, 0.0, math.log(SYMBOLS))  # blank at no cost, then one of eight
    assert guess.mean() == pytest.approx(TASKS["copy"].baseline(30))


@pytest.mark.parametrize("memory", ["chrono", "one", "drawn"])
def test_gate_biases_say_how_long_a_cell_remembers(memory):
    T, H = 100, 500
    lstm = TaskModel("adding", TaskConfig(length=T, hidden=H, memory=memory), generator=1).recurrent.bias_l0.numpy()
    gru = TaskModel("adding", TaskConfig("gru", T, H, memory=memory), generator=1).recurrent.bias_l0.numpy()
    i, f, u = lstm[:H], lstm[H : 2 * H], gru[H : 2 * H]
    if memory == "chrono":
        np.testing.assert_array_equal(i, -f)
        for bias in (f, -u):
            steps = np.exp(bias)
            assert steps.min() >= 1 and steps.max() <= T - 1 and steps.mean() == pytest.approx(T / 2, rel=0.1)
    elif memory == "one":
        assert (f == 1).all() and (u == -1).all()
    else:
        assert np.abs(lstm).max() <= H**-0.5 + 1e-6
    plain = nn.RNN(2, H, generator=1).bias_l0.numpy()
    np.testing.assert_array_equal(
        TaskModel("adding", TaskConfig("rnn", T, H, memory=memory), generator=1).recurrent.bias_l0.numpy(), plain
    )


def test_a_short_training_learns_to_add_and_repeats():
    config = TaskConfig("gru", length=6, hidden=16, batch=32, lr=0.02, steps=200)
    found = list(learn("adding", config))
    assert [p.step for p in found] == [100, 200] and found[-1].error < 0.05
    assert [p.error for p in found] == [p.error for p in learn("adding", config)]


def test_the_step_that_solved_it_stays(monkeypatch):
    monkeypatch.setitem(TASKS, "adding", TASKS["adding"]._replace(solved=0.1))
    found = list(learn("adding", TaskConfig("gru", length=4, hidden=16, batch=32, lr=0.02, steps=300)))
    solved = next(p for p in found if p.error < 0.1 / 6)
    assert solved.solved_step == solved.step == found[-1].solved_step and found[0].solved_step is None


def test_commands():
    record = json.loads(run("task", "adding", "--length", 8, "--hidden", 4, "--steps", 5, "--json").stdout)
    assert record["task"] == "adding" and record["step"] == 5 and record["baseline"] == pytest.approx(1 / 6)
    assert record["error"] > 0 and record["solved_step"] is None
    shown = run("task", "copy", "--length", 2, "--hidden", 4, "--minutes", 0.002, "--cell", "gru")
    assert "nats a step" in shown.stdout and "guessing has 0.9452" in shown.stdout and "gru of 4 units" in shown.stderr
    assert "adding" in run("task").stdout


OPTIONS = (
    "--cell transformer|--length 1|--length x|--hidden 0|--steps 0|--minutes nan|--minutes 1 --steps 1|--lr 0|--seed -1"
)


@pytest.mark.parametrize("options", OPTIONS.split("|"))
def test_nonsense(options):
    fails("task", "adding", *options.split())


def test_a_rate_that_is_too_high():
    assert "smaller --lr" in fails("task", "adding", "--length", 5, "--steps", 50, "--lr", "1e38", "--warmup", 0)
