"""Sentences whose verb agrees with a subject far before it, and models that are asked for the verb."""

import json
import re

import numpy as np
import pytest
from cli_cases import fails, run
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models import LanguageConfig, LanguageModel
from minigrad.models.lm.agreement import (
    NOUNS,
    WORDS,
    Agreement,
    Sentences,
    accuracies,
    accuracy,
    distance,
    sentences,
    train,
    vocabulary,
)

NOUN, VERB = f"({'|'.join(NOUNS)})(s?)", r"(\w+)"


def test_the_vocabulary():
    assert len(vocabulary()) == 58 == len(set(WORDS)) + 2


@given(st.integers(0, 30), st.integers(1, 8), st.integers(0, 2**40))
def test_every_sentence_agrees_with_its_subject(nouns, count, seed):
    ids, plural = sentences(nouns, count, seed)
    assert plural.sum() == count // 2
    between = rf" , which already {VERB}( and)?" + rf"( the {NOUN}( and)?)" * nouns + " ," if nouns else ""
    pattern = re.compile(rf"the {NOUN}{between} (was|were) {VERB} \.\n")
    for row, many in zip(ids.T, plural):
        assert row[0] == row[-1] == vocabulary().end
        text = vocabulary().decode(row[1:])
        found = pattern.fullmatch(text)
        assert found and bool(found[2]) == many and (" were " in text) == many and (" was " in text) != many
        words = text.split()
        verb = max(words.index(w) for w in ("was", "were") if w in words)
        assert verb - 2 == distance(nouns) and len(row) - 4 == verb + 1


def test_intervening_nouns_have_both_numbers_whatever_the_subject():
    ids, plural = sentences(3, 2000, 0)
    first = vocabulary().encode(f"{NOUNS[0]}s")[0]
    for row in (8, 11, 14):
        many = ids[row] >= first
        assert 0.45 < many[plural].mean() < 0.55 and 0.45 < many[~plural].mean() < 0.55


def test_batches_are_functions_of_the_step():
    batches, settings = Sentences(Agreement()), Agreement()
    shapes = set()
    for step in range(40):
        (inputs, targets), fresh = batches(step)
        (again, _), _ = Sentences(settings)(step)
        np.testing.assert_array_equal(inputs, again)
        np.testing.assert_array_equal(inputs[1:], targets[:-1])
        assert fresh.all() and fresh.shape == (settings.batch,)
        shapes.add(len(inputs))
    assert shapes == {distance(k) + 6 for k in range(settings.nouns + 1)}


def test_an_untrained_model_guesses_and_an_oracle_knows():
    model = LanguageModel(LanguageConfig(hidden=8, embedding=4), vocabulary(), generator=0)
    assert 0.4 < accuracy(model, 3, 500, 0) < 0.6
    was, were = vocabulary().encode("was were")
    _, plural = sentences(3, 500, 0)

    class Oracle(LanguageModel):
        def logits(self, h):
            found = np.zeros((len(plural), len(vocabulary())), np.float32)
            found[plural, were] = found[~plural, was] = 1
            return type(h)(found)

    model.__class__ = Oracle
    assert accuracy(model, 3, 500, 0) == 1.0


def test_a_short_training_learns_the_shortest_distance():
    settings = Agreement(hidden=16, embedding=8, nouns=0, tested=1, sentences=100, steps=200, lr=0.02)
    shown = []
    found = dict(accuracies(train("gru", settings, lambda *a: shown.append(a)), settings))
    assert found[0] > 0.9 and set(found) == {0, 7} and shown[-1][0] == 1.0


def test_settings():
    assert Agreement().recipe().steps == 3000 and Agreement(minutes=1.0).recipe().steps is None
    assert Agreement(nouns=5, tested=9).test() == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    with pytest.raises(UserError, match="budget"):
        Agreement(minutes=1.0, steps=3)


TINY = ["--hidden", 8, "--embedding", 4, "--steps", 3, "--tested", 2, "--nouns", 1, "--sentences", 10, "--seeds", 2]


def test_the_command(tmp_path):
    record = json.loads(run("lm", "agreement", *TINY, "--cell", "gru", "--cell", "rnn", "--json").stdout)
    assert record["distance"] == [0, 7, 10] and set(record["accuracy"]) == {"gru", "rnn"}
    assert np.shape(record["accuracy"]["gru"]["runs"]) == (2, 3)
    plot = tmp_path / "a.png"
    shown = run("lm", "agreement", *TINY, "--plot", plot)
    assert shown.stdout.splitlines()[1].split() == ["words", "between", "rnn", "gru", "lstm"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    for options in (["--cell", "x"], ["--steps", 0], ["--minutes", 1], ["--seeds", 0], ["--plot", tmp_path / "a.bmp"]):
        fails("lm", "agreement", *TINY, *options)
