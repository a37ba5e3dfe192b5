"""Captions: the decoder of translations over features of an image."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from minigrad.errors import ShapeError, UserError
from minigrad.models import Captioner, CharVocabulary, Decoding, Recipe, Seq2Seq, Seq2SeqConfig, Trainer, WordVocabulary
from minigrad.models.batches import side_by_side
from minigrad.models.caption.digits import NAMES, drawn, patches, strips
from minigrad.models.caption.model import Images

V = WordVocabulary(NAMES, "lines")
CONFIG = Seq2SeqConfig(hidden=12, embedding=6, dropout=0.0)


def images(count, low=1, high=4, seed=0):
    found = strips(*drawn(100, 1), count, low, high, seed)
    return [patches(strip) for strip, _ in found], [words for _, words in found]


@pytest.mark.parametrize("attention", ("none", "general", "additive"))
def test_company_and_order_change_nothing(attention):
    model = Captioner(replace(CONFIG, attention=attention), 32, V, generator=1)
    some, _ = images(7)
    together = model.captions(some, Decoding(beam=3, n_best=2), batch=4)
    alone = [model.captions([image], Decoding(beam=3, n_best=2))[0] for image in some]
    turned = model.captions(some[::-1], Decoding(beam=3, n_best=2))[::-1]
    for a, b, c in zip(together, alone, turned):
        assert [one.text for one in a] == [one.text for one in b] == [one.text for one in c]
        np.testing.assert_allclose([one.score for one in a], [one.score for one in b], rtol=1e-4)
    if attention != "none":
        assert [found[0].weights.shape[1] for found in together] == [len(image) for image in some]


def test_a_caption_has_the_probability_that_the_model_gives_it():
    model = Captioner(CONFIG, 32, V, generator=1)
    some, _ = images(5)
    for image, found in zip(some, model.captions(some, Decoding(beam=4, n_best=4))):
        for one in found:
            source, lengths = side_by_side([image], np.float32)
            nll = model.nll(source, lengths, one.ids[:, None])
            np.testing.assert_allclose(one.log_probability, -nll.sum(), rtol=1e-4)


def test_it_learns_to_read_strips():
    pictures, labels = drawn(400, 1)
    few = labels < 3
    found = strips(pictures[few], labels[few], 400, 1, 2, seed=2)
    some, words = [patches(strip) for strip, _ in found], [w for _, w in found]
    model = Captioner(replace(CONFIG, hidden=48, embedding=24), 32, V, generator=1)
    batches = Images(some, [V.encode(w) for w in words], 32, 1, end=V.end)
    losses = [s.loss for s in Trainer(model, batches, None, Recipe(batch=32, steps=350, lr=1e-2, warmup=20))]
    assert losses[0] > 2.2 and np.mean(losses[-20:]) < 0.3
    found = model.captions(some[:100], Decoding(beam=1))
    assert np.mean([one[0].text == w for one, w in zip(found, words)]) > 0.8


def test_batches_hold_every_image_with_its_caption():
    some, words = images(50)
    batches = Images(some, [V.encode(w) for w in words], 8, 3, end=V.end)
    seen = []
    for step in range(batches.per_epoch):
        (source, lengths, target), _ = batches(step)
        for b, n in enumerate(lengths):
            caption = V.decode(target[target[:, b] >= 0, b][:-1])
            matches = [i for i, image in enumerate(some) if words[i] == caption and len(image) == n
                       and np.array_equal(source[:n, b], image)]  # fmt: skip
            assert matches and not source[n:, b].any()
            seen.append(matches[0])
    assert len(seen) == 50


def test_a_file_brings_it_back(tmp_path):
    model, path = Captioner(CONFIG, 32, V, generator=1), tmp_path / "m.safetensors"
    model.save(path)
    some, _ = images(3)
    again = Captioner.load(path)
    assert [f[0].log_probability for f in again.captions(some)] == [f[0].log_probability for f in model.captions(some)]
    with pytest.raises(UserError, match="a model of class 'Captioner', expected a Seq2Seq"):
        Seq2Seq.load(path)
    for wrong in (5, 32.0, "32", None):
        model.features = wrong
        model.save(path)
        with pytest.raises(UserError, match="damaged"):
            Captioner.load(path)


def test_samples_of_a_large_image_come_at_once():
    model = Captioner(CONFIG, 500, V, generator=1)
    images = [np.ones((200, 500), np.float32), np.zeros((200, 500), np.float32)]
    how = Decoding(temperature=2.0, n_best=20, max_length=4)
    began = time.process_time()
    found = [[one.text for one in own] for own in model.captions([*images, images[0]], how)]
    assert time.process_time() - began < 15  # a seed of all its bytes took a minute
    assert found[0] == found[2] != found[1]


def test_wrong_images():
    model = Captioner(CONFIG, 32, V, generator=1)
    good = np.zeros((3, 32), np.float32)
    for bad in (np.zeros(32), np.zeros((3, 31)), np.zeros((0, 32))):
        with pytest.raises(ShapeError, match=r"\[image 2\] got features"):
            model.captions([good, bad])
    for shape in ((3, 1, 5), (3, 32)):
        with pytest.raises(ShapeError, match="P = 32"):
            model.start(np.zeros(shape), [3])
    with pytest.raises(UserError, match="a text, whose words"):
        model.captions([good], Decoding(replace_unknown=True))
    for batch in (0, -1):
        with pytest.raises(UserError, match="batch"):
            model.captions([good], batch=batch)
    with pytest.raises(UserError, match="without an end"):
        Captioner(CONFIG, 32, CharVocabulary.of("abc"), generator=1)
    assert model.captions([]) == []


def test_long_images_go_through_in_smaller_batches(monkeypatch):
    model, (some, _), asked = Captioner(CONFIG, 32, V, generator=1), images(9), []
    expected = [found[0].text for found in model.captions(some)]
    start = model.start
    monkeypatch.setattr(
        model, "start", lambda source, lengths: (asked.append(source.shape[:2]), start(source, lengths))[1]
    )
    monkeypatch.setattr("minigrad.models.seq2seq.decode.POSITIONS", 80)
    assert [found[0].text for found in model.captions(some, Decoding())] == expected
    assert len(asked) > 2 and all(B == 1 or S * B * 5 <= 80 for S, B in asked)


def test_a_patch_goes_through_two_layers_and_a_relu():
    model = Captioner(CONFIG, 3, V, generator=1)
    w, f = model.state_dict(), np.array([[[0.5, -2.0, 1.0]]], np.float32)
    inside = np.maximum(w["patch.0.weight"] @ f[0, 0] + w["patch.0.bias"], 0)
    expected = w["patch.1.weight"] @ inside + w["patch.1.bias"]
    np.testing.assert_allclose(model.embedded(f).numpy()[0, 0], expected, rtol=1e-5)
    assert (inside == 0).any()
