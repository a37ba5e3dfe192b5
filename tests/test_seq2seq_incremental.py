"""The model itself, untrained: writing step by step has the probabilities of reading the output at once, and neither
padding nor order nor company of the sources change them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.models import CharVocabulary, WordVocabulary
from minigrad.models.seq2seq.beam import Decoding
from minigrad.models.seq2seq.config import Seq2SeqConfig
from minigrad.models.seq2seq.decode import translate
from minigrad.models.seq2seq.model import Seq2Seq
from minigrad.models.seq2seq.score import candidates, log_probabilities, tokens

WORDS = WordVocabulary(["the", "cat", "sat", "on", "mats"], "spaces")
LETTERS = CharVocabulary.of("abcd\n", 1)
LINES = ["cab", "d", "abcdabcdabcd", "", "bad", "aaaa"]
SHAPES = {
    "plain": {"attention": "none"},
    "backward": {"attention": "none", "direction": "backward", "cell": "gru", "layers": 2},
    "dot": {"attention": "dot", "cell": "rnn", "direction": "forward"},
    "general": {"attention": "general", "layers": 2},
    "without feeding": {"attention": "general", "input_feeding": False, "cell": "gru"},
    "additive": {"attention": "additive", "coverage": 1.0},
    "location": {"attention": "location", "positions": 6, "tied": True},
}


def tiny(name, seed=0):
    """A fresh model is nearly uniform; a larger output layer makes it prefer something."""
    model = Seq2Seq(Seq2SeqConfig(hidden=8, embedding=6, **SHAPES[name]), LETTERS, WORDS, generator=seed)
    model.output.weight.data = model.output.weight.numpy() * np.float32(10)
    model.output.bias.data = np.where(np.arange(len(WORDS)) == WORDS.end, np.float32(1), model.output.bias.numpy())
    if "u" in model.attention:
        model.attention["u"].data = model.attention["u"].numpy() + np.float32(0.5)
    return model


@pytest.mark.parametrize("name", SHAPES)
def test_step_by_step_is_as_at_once(name):
    model = tiny(name)
    for how in (Decoding(beam=3, n_best=3), Decoding(n_best=3, temperature=2.0, unknown=True)):
        for line, found in zip(LINES, translate(model, LINES, how)):
            for one in found if line else []:
                source, target = model.source.encode(line)[:, None], one.ids[:, None]
                at_once = -model.nll(source, np.array([len(line)]), target)[:, 0]
                with model.inference():
                    state = model.start(source, np.array([len(line)]))
                last, steps = np.array([WORDS.start]), []
                for i in one.ids:
                    logp, state, weights = model.step(last, state)
                    steps.append(logp[0, i])
                    last = np.array([i])
                np.testing.assert_allclose(steps, at_once, atol=2e-5)
                assert one.log_probability == pytest.approx(at_once.sum(dtype=float), abs=1e-4)
                if weights is None:
                    assert one.weights is None
                else:
                    assert one.weights.shape == (len(one.ids), len(line))
                    np.testing.assert_allclose(one.weights.sum(-1), 1, atol=1e-5)
                    np.testing.assert_allclose(one.weights[-1], weights[0], atol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_padding_order_and_company_change_nothing(name):
    model, how = tiny(name), Decoding(beam=4, n_best=4, length_penalty="average")
    alone = [next(translate(model, [line], how)) for line in LINES]
    for order in (range(6), (5, 0, 3, 2, 4, 1)):
        for batch in (2, 64):
            for i, found in zip(order, translate(model, [LINES[i] for i in order], how, batch), strict=True):
                assert [one.text for one in found] == [one.text for one in alone[i]]
                for one, other in zip(found, alone[i]):
                    assert one[1:3] == pytest.approx(other[1:3], abs=1e-4)
                    if one.weights is not None:
                        np.testing.assert_allclose(one.weights, other.weights, atol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_scores_of_given_pairs_are_those_of_the_search(name):
    model = tiny(name)
    lines = [line for line in LINES if line]
    found = [one[0] for one in translate(model, lines, Decoding(length_factor=1.0, length_offset=30))]
    scored = log_probabilities(model, lines, [one.text for one in found], 2)
    assert any(one.complete for one in found)
    for line, one, own in zip(lines, found, scored):
        parts = tokens(model, line, one.text)
        assert sum(p for _, p in parts) == pytest.approx(own.log_probability, abs=1e-4)
        (alone,) = candidates(model, line, [one.text])
        assert alone[1:] == pytest.approx(own, abs=1e-4)
        if one.complete:
            assert own.log_probability == pytest.approx(one.log_probability, abs=1e-4) and own.symbols == len(one.ids)


@given(st.integers(0, 50), st.sampled_from(sorted(SHAPES)))
def test_probabilities_of_all_outputs_sum_to_one(seed, name):
    """Of all outputs of up to two symbols and the end, and of all beginnings of three that go on."""
    model = tiny(name, seed)
    how = Decoding(beam=400, n_best=400, length_factor=0.0, length_offset=3, unknown=True)
    (found,) = translate(model, ["ab"], how)
    assert len(found) == 1 + 6 + 36 + 216
    assert sum(np.exp(one.log_probability) for one in found) == pytest.approx(1, abs=1e-4)


def test_unknown_words_are_replaced_with_their_spaces():
    v = WordVocabulary.of("le chat , l'eau .\n", tokens="lines")
    model = Seq2Seq(Seq2SeqConfig(hidden=8, embedding=6), v, v, generator=0)
    model.output.bias.data = np.where(np.arange(len(v)) == v.unknown, np.float32(9), np.float32(0))
    ((found,),) = translate(model, ["Rhin-et."], Decoding(replace_unknown=True, max_length=3))
    assert found.ids.tolist() == [v.unknown] * 3
    words = [v.split("Rhin-et.")[s] for s in found.weights.argmax(-1)]
    assert found.text == v.join(words) and "<UNK>" not in found.text and "\uffed" not in found.text
    letters = Seq2Seq(Seq2SeqConfig(hidden=8, embedding=6), LETTERS, v, generator=0)
    letters.output.bias.data = model.output.bias.numpy()
    ((found,),) = translate(letters, ["ab"], Decoding(replace_unknown=True, max_length=2))
    assert found.text == " ".join("ab"[s] for s in found.weights.argmax(-1))
