"""Models on a device train as on the CPU: the same losses and gradient norms step by step, the same parameters."""

from dataclasses import replace

import numpy as np
import pytest
from on_device import DEVICE
from seq2seq_cases import SMALL, V, batch

import minigrad as mg
from minigrad.engine.tree import tree_map
from minigrad.models import CharVocabulary, Decoding, LanguageConfig, LanguageModel, Seq2Seq, translate

pytestmark = pytest.mark.cuda_sim
LETTERS = CharVocabulary.of_lines(["abcdefgh"])


def trained(model, losses, optimizer=mg.optim.Adam, steps=2):
    """What ``losses(step, state)``, which gives a loss and a state, comes to; and the parameters."""
    optimizer, state, found = optimizer(model.parameters(), lr=1e-2), None, []
    for i in range(steps):
        loss, state = losses(i, state)
        optimizer.zero_grad()
        loss.backward()
        found += [loss.item(), mg.optim.clip_grad_norm_(model.parameters(), 0.1)]
        optimizer.step()
        state = tree_map(lambda s: s.detach(), state)
    return found, [p.numpy() for p in model.parameters()]


def assert_alike(make, losses_of, optimizer=mg.optim.Adam):
    """``losses_of(model)`` of a model on the CPU and on the device."""
    here, there = (trained(model, losses_of(model), optimizer) for model in (make(), make().to(DEVICE)))
    np.testing.assert_allclose(there[0], here[0], rtol=2e-5)
    for p, q in zip(there[1], here[1]):
        np.testing.assert_allclose(p, q, atol=2e-5)


LANGUAGE = {
    "lstm, two layers": {"cell": "lstm", "layers": 2, "dropout": 0.3},
    "gru, weights dropped": {"cell": "gru", "weight_dropout": 0.2, "variational": True, "dropout": 0.2},
    "rnn, learned state": {"cell": "rnn", "learn_state": True},
    "tied": {"cell": "lstm", "tied": True, "embedding": 8},
    "adaptive": {"softmax": "adaptive"},
    "sampled": {"softmax": "sampled", "samples": 4},
    "nce": {"softmax": "nce", "samples": 4},
}  # fmt: skip


@pytest.mark.parametrize("name", LANGUAGE)
def test_language_models_train_as_on_the_cpu(name):
    config = LanguageConfig(**{"hidden": 8, "embedding": 6, **LANGUAGE[name]})

    def losses_of(model):
        def losses(i, state):
            ids = np.random.default_rng(i).integers(0, len(LETTERS), (6, 3))
            return model.loss(ids[:-1], ids[1:], state)

        return losses

    dense = config.softmax == "exact"  # on a device a sparse gradient is dense: for SGD the same
    assert_alike(
        lambda: LanguageModel(config, LETTERS, generator=0), losses_of, mg.optim.Adam if dense else mg.optim.SGD
    )


@pytest.mark.parametrize("attention", ["general", "location", "additive", "none"])
def test_translation_models_train_and_translate_as_on_the_cpu(attention):
    config = replace(SMALL, attention=attention)

    def losses_of(model):
        return lambda i, state: model.loss(*batch([(3, 4), (5, 2), (1, 3)], seed=i))

    assert_alike(lambda: Seq2Seq(config, V, V, generator=0), losses_of)
    model, how = Seq2Seq(config, V, V, generator=0), Decoding(beam=2, n_best=2, max_length=4)
    here = list(translate(model, ["abc", "ga"], how))
    there = list(translate(model.to(DEVICE), ["abc", "ga"], how))
    assert [[t.text for t in best] for best in here] == [[t.text for t in best] for best in there]
