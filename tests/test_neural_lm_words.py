"""The neural language model over four words: its derivatives, its batches, and that it learns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models import Recipe, Trainer
from minigrad.models.embed.neural import Contexts, NeuralModel, shuffled
from minigrad.models.lm.softmaxes import SOFTMAXES
from minigrad.testing import check_grad

KEYS = np.random.default_rng(0).integers(2**64, size=6, dtype=np.uint64)


def test_derivatives_of_the_loss():
    model = NeuralModel(6, dim=2, hidden=3, generator=0)
    ids = np.array([[0, 5], [3, 3], [3, 1], [2, 4], [5, 0]])  # a word twice in a context and over the batch

    def loss(e, w, b, u, d):
        model.embedding.weight, model.hidden.weight, model.hidden.bias = e, w, b
        model.output.weight, model.output.bias = u, d
        return model.loss(ids)[0]

    check_grad(loss, *(p.numpy() for p in model.parameters()))


def test_the_loss_is_that_of_the_equations():
    model = NeuralModel(7, dim=3, hidden=4, context=2, generator=0)
    ids = np.array([[0, 6, 2], [1, 1, 5], [3, 2, 2]])
    e, w, b, u, d = (p.numpy().astype(float) for p in model.parameters())
    z = np.tanh(np.concatenate([e[ids[0]], e[ids[1]]], 1) @ w.T + b) @ u.T + d
    nll = np.log(np.exp(z).sum(1)) - z[np.arange(3), ids[2]]
    np.testing.assert_allclose(model.nll(ids), nll, rtol=1e-5)
    assert model.loss(ids)[0].item() == pytest.approx(nll.mean(), rel=1e-5)
    np.testing.assert_array_equal(model.vectors(), model.embedding.weight.numpy()[2:])


@given(st.integers(1, 300), st.integers(0, 2**64 - 1))
def test_a_shuffle_is_a_permutation(n, key):
    keys = KEYS ^ np.uint64(key)
    found = shuffled(np.arange(n), n, keys)
    assert sorted(found.tolist()) == list(range(n))
    some = np.arange(0, n, 3)
    np.testing.assert_array_equal(shuffled(some, n, keys), found[::3])


def test_a_shuffle_mixes():
    found = shuffled(np.arange(100_000), 100_000, KEYS)
    steps = np.diff(found)
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.02
    assert len(np.unique(steps)) > 60_000 and abs(found[:1000].mean() - 50_000) < 4000


@given(n=st.integers(5, 60), batch=st.integers(1, 20), seed=st.integers(0, 99))
def test_an_epoch_has_every_place_once(n, batch, seed):
    contexts = Contexts(np.arange(n, dtype=np.int32), batch, 4, seed)
    for epoch in (0, 1):
        words = [contexts(epoch * contexts.per_epoch + k)[0][0] for k in range(contexts.per_epoch)]
        assert all((np.diff(w, axis=0) == 1).all() and w.shape[0] == 5 for w in words)
        assert sorted(np.concatenate(words, 1)[0].tolist()) == list(range(n - 4))


def test_a_text_that_is_too_short():
    with pytest.raises(UserError, match="got 4 words, expected more than the 4 before a word"):
        Contexts(np.arange(4), 2)


@pytest.mark.parametrize("wrong", [{"symbols": 1}, {"symbols": 9, "dim": 0}, {"symbols": 9, "context": 0}])
def test_bad_settings(wrong):
    with pytest.raises(UserError, match="1 or more"):
        NeuralModel(**wrong)


def test_words_of_another_number():
    with pytest.raises(UserError, match="got 2 words before a word, expected 4"):
        NeuralModel(9, 3, 3).loss(np.zeros((3, 2), int))


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_it_learns_and_goes_on_to_the_last_bit(softmax):
    ids = np.tile(np.arange(2, 12), 40).astype(np.int32)  # the next word follows from the last

    def trainer(steps):
        model = NeuralModel(12, dim=6, hidden=16, softmax=softmax, samples=8, generator=1)
        return Trainer(model, Contexts(ids, 32, 4, seed=1), (), Recipe(batch=32, lr=0.02, warmup=0, steps=steps))

    whole = trainer(60)
    held_out = np.stack([ids[k : k + 5] for k in range(10)], 1)  # (5, 10)
    before = whole.model.nll(held_out).mean()
    losses = [step.loss for step in whole]
    assert whole.model.nll(held_out).mean() < 0.4 * before
    cut = trainer(60)
    begun = [next(it).loss for it in [iter(cut)] for _ in range(30)]
    arrays, facts = cut.state()
    rest = trainer(60)
    rest.model.load_state_dict(cut.model.state_dict())
    rest.restore("file", arrays, facts)
    assert begun + [step.loss for step in rest] == losses
    np.testing.assert_array_equal(rest.model.vectors(), whole.model.vectors())
