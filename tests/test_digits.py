"""Strips of digits: reading, drawing, joining and cutting into windows."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import ShapeError, UserError
from minigrad.models.caption.digits import NAMES, caption, drawn, patches, read_optdigits, strips

LINE = ",".join(["0", "16", "5"] * 21 + ["1", "7"])


def test_a_file_of_digits(tmp_path):
    path = tmp_path / "digits.csv"
    path.write_text(f"# a comment\n{LINE}\n\n{LINE[:-1]}0\n")
    images, labels = read_optdigits(path)
    assert images.shape == (2, 8, 8) and images.dtype == np.float32 and labels.tolist() == [7, 0]
    assert images[0, 0, :4].tolist() == [0, 1, 5 / 16, 0] and images[1, 7, 7] == 1 / 16


@pytest.mark.parametrize("line, said", [
    (LINE + ",3", "line 2: "),
    (LINE[2:], "line 2: "), (LINE.replace("16", "17", 1), "line 2: "), ("-1" + LINE[1:], "line 2: "),
    (LINE[:-1] + "10", "line 2: "), (LINE.replace("5", "x", 1), "line 2: "), (LINE.replace(",", ";"), "line 2: "),
    ("seven", "'seven', expected 64 integers"), ("0.5," + LINE[2:], "line 2: ")])  # fmt: skip
def test_a_bad_line_is_named(tmp_path, line, said):
    path = tmp_path / "digits.csv"
    path.write_text(f"{LINE}\n{line}\n")
    with pytest.raises(UserError, match=said) as error:
        read_optdigits(path)
    assert "digits.csv" in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 300


def test_files_without_digits(tmp_path):
    path = tmp_path / "digits.csv"
    with pytest.raises(UserError, match="No such file"):
        read_optdigits(path)
    path.write_text("# nothing\n")
    with pytest.raises(UserError, match="no image"):
        read_optdigits(path)
    path.write_bytes(b"\x89PNG\0")
    with pytest.raises(UserError, match="binary"):
        read_optdigits(path)


def test_drawn_digits_vary_and_can_be_told_apart():
    (images, labels), (others, truth) = drawn(2000, seed=1), drawn(500, seed=2)
    assert images.shape == (2000, 8, 8) and images.dtype == np.float32 and set(labels) == set(range(10))
    assert images.min() == 0 and images.max() <= 1 and (images * 16 == np.round(images * 16)).all()
    x, y = images.reshape(-1, 64), others.reshape(-1, 64)
    assert len(np.unique(x, axis=0)) == 2000
    distances = (x * x).sum(1) - 2 * y @ x.T  # (500, 2000), of the square what depends on x
    assert (labels[distances.argmin(1)] == truth).mean() > 0.95  # by the nearest one
    means = np.stack([x[labels == digit].mean(0) for digit in range(10)])
    far = ((x - means[labels]) ** 2).sum(1)
    assert np.median(far) > 2  # not one picture with a little noise: a shift by a column is about 10


def test_one_seed_is_one_drawing():
    for a, b, c in zip(drawn(30, 1), drawn(30, 1), drawn(30, 2)):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    assert drawn(0, 1)[0].shape == (0, 8, 8)


@given(st.integers(1, 3), st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**40))
def test_strips_say_what_they_show(low, more, gap, seed):
    """Of images of one value each, which tells the digit, the captions can be read off."""
    values = np.arange(1, 11, dtype=np.float32) / 16
    images = np.broadcast_to(values[:, None, None], (10, 3, 5))
    found = strips(images, np.arange(10), 20, low, low + more, seed, gap)
    assert len(found) == 20
    for strip, words in found:
        assert strip.dtype == np.float32 and (strip == strip[0]).all() and len(strip) == 3
        runs = [(value, len(list(run))) for value, run in groupby(strip[0].tolist())]
        assert runs[0][0] > 0 and runs[-1][0] > 0 and all(n <= gap for value, n in runs if not value)
        seen = [int(value * 16) - 1 for value, n in runs if value for _ in range(n // 5)]
        assert caption(seen) == words and low <= len(seen) <= low + more
    again = strips(images, np.arange(10), 20, low, low + more, seed, gap)
    assert all(np.array_equal(a, b) and s == t for (a, s), (b, t) in zip(found, again))


def test_strips_have_all_lengths_digits_and_gaps():
    found = strips(*drawn(300, 0), count=500, low=2, high=4, seed=0, gap=2)
    assert {len(words.split()) for _, words in found} == {2, 3, 4}
    assert {word for _, words in found for word in words.split()} == set(NAMES)
    assert {strip.shape[1] for strip, words in found if words.count(" ") == 1} == {16, 17, 18}


@given(st.integers(1, 5), st.integers(0, 30), st.integers(1, 6), st.data())
def test_windows_by_definition(rows, columns, width, data):
    stride = data.draw(st.integers(1, width))
    image = np.random.default_rng(0).random((rows, columns)).astype(np.float32)
    found, filled = patches(image, width, stride), np.concatenate([image, np.zeros((rows, 20), np.float32)], 1)
    assert found.dtype == np.float32
    for s, window in enumerate(found):
        np.testing.assert_array_equal(window.reshape(rows, width), filled[:, s * stride : s * stride + width])
    last = (len(found) - 1) * stride  # begins before the end; without it, columns would be missing
    assert last + width >= columns and (len(found) == 1 or last + width - stride < columns)


def test_wrong_sizes():
    images, labels = drawn(4, 0)
    for wrong in ((images[0], labels), (images, labels[:3]), (images[:0], labels[:0])):
        with pytest.raises(ShapeError, match="strips"):
            strips(*wrong, count=2)
    for wrong in ({"low": 0}, {"low": 3, "high": 2}, {"gap": -1}):
        with pytest.raises(UserError, match="strips"):
            strips(images, labels, 2, **wrong)
    for wrong in ((images, 4, 2), (images[0], 2, 3), (images[0], 2, 0)):
        with pytest.raises(ShapeError, match="patches"):
            patches(*wrong)
