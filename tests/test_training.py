"""The training loop: it learns, repeats, can be cut anywhere, keeps its budget, and refuses nonsense."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from lm_cases import RECIPE, SMALL, make, make_trainer

from minigrad.errors import UserError
from minigrad.models import LanguageConfig
from minigrad.models.batches import Windows


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_training_learns_and_repeats(cell):
    recipe, config = replace(RECIPE, steps=150, warmup=10, lr=0.02), replace(SMALL, cell=cell)
    a, b = make_trainer(recipe, config), make_trainer(recipe, config)
    losses = [step.loss for step in a]
    assert losses[0] > 2.5 and np.mean(losses[-10:]) < 1.2
    assert losses == [step.loss for step in b]
    assert len(losses) == 150 and a.progress == 1.0 and list(a) == []


def test_a_training_cut_anywhere_goes_on_identically():
    config = replace(SMALL, layers=2, dropout=0.3)
    recipe = replace(RECIPE, steps=9)
    whole = make_trainer(recipe, config)
    list(whole)
    for cut in (1, 4, 8):
        first = make_trainer(recipe, config)
        steps = iter(first)
        for _ in range(cut):
            next(steps)
        arrays, facts = first.state()
        second = make_trainer(replace(recipe, seed=99), config)
        second.recipe = recipe
        second.model.load_state_dict(first.model.state_dict())
        second.restore("here", arrays, json.loads(json.dumps(facts)))
        assert [step.number for step in second] == list(range(cut + 1, 10))
        for name, p in whole.model.state_dict().items():
            np.testing.assert_array_equal(second.model.state_dict()[name], p, err_msg=f"{name}, cut at {cut}")


def test_the_rate_warms_up_and_decays():
    rates = [step.rate for step in make_trainer(replace(RECIPE, steps=40, warmup=10, lr=0.01))]
    assert rates[0] == pytest.approx(0.001, rel=1e-3) and rates.index(max(rates)) == 9
    assert rates[9:] == sorted(rates[9:], reverse=True) and rates[-1] < 1e-4


def test_a_budget_of_time_is_kept():
    trainer = make_trainer(replace(RECIPE, steps=None, minutes=0.3 / 60))
    list(trainer)
    assert 0.3 <= trainer.seconds < 3.0
    assert trainer.state()[1]["seconds"] >= 0.3


def test_an_epoch_is_one_pass():
    trainer = make_trainer(replace(RECIPE, steps=None, epochs=2))
    assert len(list(trainer)) == 2 * trainer.batches.per_epoch


@pytest.mark.parametrize(
    "values",
    [
        {"lr": 0.0}, {"lr": math.nan}, {"lr": math.inf}, {"lr": -1.0}, {"batch": 0}, {"window": -1}, {"clip": 0.0},
        {"seed": -1}, {"steps": 0}, {"steps": None}, {"epochs": 3}, {"minutes": 1.0}, {"steps": 1.5}, {"warmup": -1},
        {"steps": None, "minutes": math.nan}, {"steps": None, "minutes": 0.0}, {"steps": None, "epochs": 0},
    ],
)  # fmt: skip
def test_nonsense_recipes_are_refused(values):
    with pytest.raises(UserError, match=r"\[(budget|" + "|".join(values) + r")\] got"):
        replace(RECIPE, **values)


BROKEN = {
    "step negative": lambda a, f: f.update(step=-1),
    "step text": lambda a, f: f.update(step="3"),
    "seconds NaN": lambda a, f: f.update(seconds=math.nan),
    "generator gone": lambda a, f: f.update(generator=None),
    "generator another": lambda a, f: f.update(generator={"bit_generator": "MT19937"}),
    "generator huge": lambda a, f: f["generator"]["state"].update(state=2**200),
    "carry gone": lambda a, f: a.pop("carry.0"),
    "carry of another shape": lambda a, f: a.update({"carry.1": np.zeros((1, 2, 3), np.float32)}),
    "optimizer without steps": lambda a, f: a.pop("optimizer.steps"),
    "optimizer of many steps": lambda a, f: a.update({"optimizer.steps": np.zeros(3)}),
    "optimizer of another shape": lambda a, f: a.update({k: np.zeros(7, np.float32) for k in a if ".0.1" in k}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_state_of_training_is_a_clear_error(name):
    trainer = make_trainer()
    next(iter(trainer))
    arrays, facts = trainer.state()
    facts = json.loads(json.dumps(facts))
    BROKEN[name](arrays, facts)
    with pytest.raises(UserError, match="damaged state of training"):
        make_trainer().restore("here", arrays, facts)


def test_training_stops_where_numbers_end():
    trainer = make_trainer(replace(RECIPE, lr=1e38, warmup=0))
    with pytest.raises(UserError, match="smaller --lr"):
        list(trainer)


def test_models_of_nothing_are_refused():
    with pytest.raises(UserError, match="two different"):
        make(text="aaaa")
    with pytest.raises(UserError, match=r"\[tied\]"):
        LanguageConfig(hidden=8, embedding=4, tied=True)
    with pytest.raises(UserError, match="longer text"):
        Windows(np.arange(100), 10, 10, 0)
