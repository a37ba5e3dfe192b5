"""Text as numbers: vocabularies, windows, files."""

import json

import numpy as np
import pytest
from lm_cases import make

import minigrad as mg
from minigrad.errors import UserError
from minigrad.models import CharVocabulary
from minigrad.models.batches import Windows, columns
from minigrad.models.text import Text, default_text, read_text


def test_a_vocabulary_is_a_bijection_and_survives_json():
    v = CharVocabulary.of("naïve 東京 🎈\n")
    assert v.decode(v.encode("🎈 東京")) == "🎈 東京"
    again = CharVocabulary.from_json("here", json.loads(json.dumps(v.to_json())))
    assert again.symbols == v.symbols
    assert v.symbols[v.start] == "\n"


@pytest.mark.parametrize(
    ("text", "named"), [("abXc", "'X' (U+0058) at position 2"), ("\udc80", "U+DC80"), ("ab€", "'€'")]
)
def test_an_unknown_character_is_named(text, named):
    with pytest.raises(UserError, match=r"expected one of the 3 characters") as error:
        CharVocabulary.of("abc").encode(text)
    assert named in str(error.value)


def test_windows_cover_each_stream_in_order():
    ids = np.arange(3 * 10 + 5)
    windows = Windows(ids, batch=3, window=4, reset=0)
    assert windows.per_epoch == 2
    seen = [windows(step) for step in range(5)]
    assert [fresh.tolist() for _, fresh in seen] == [[k % 2 == 0] * 3 for k in range(5)]
    for (inputs, targets), _ in seen:
        np.testing.assert_array_equal(targets, inputs + 1)
    np.testing.assert_array_equal(np.concatenate([seen[0][0][0], seen[1][0][0]])[:, 1], np.arange(11, 19))
    inputs, targets = columns(ids, 1)
    assert inputs.shape == targets.shape == (34, 1)


def test_streams_begin_anew_by_turns():
    windows = Windows(np.arange(4 * 40 + 1), batch=4, window=4, reset=5)
    fresh = np.array([windows(step)[1] for step in range(20)])  # (steps, B): two epochs of ten
    assert fresh[0].all() and fresh[10].all() and not fresh[1:10].all(-1).any()
    for b in range(4):
        assert np.diff(np.flatnonzero(fresh[1:10, b])).tolist() in ([], [5])
    model = make()
    state = tuple(mg.tensor(np.ones((1, 4, 12), np.float32)) for _ in "hc")
    h, c = model.reset(state, fresh[1])
    np.testing.assert_array_equal(h.numpy()[0, :, 0], ~fresh[1])
    np.testing.assert_array_equal(h.numpy(), c.numpy())


def test_line_ends_and_byte_order_marks_are_read_away(tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes("\ufeffone\r\ntwo\r".encode())
    assert read_text(path) == Text("windows.txt", "one\ntwo\n")


def test_the_default_text_is_english_and_the_same_every_time():
    text = default_text()
    assert text == default_text() and len(text.content) > 300_000 and " the " in text.content
    train, held_out = text.parts()
    assert train + held_out == text.content and 0.09 < len(held_out) / len(text.content) < 0.11
