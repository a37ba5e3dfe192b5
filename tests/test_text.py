"""Texts: files read in blocks, their parts, and their symbols as integers on the disk."""

import os
import tempfile
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models import CharVocabulary, WordVocabulary
from minigrad.models import text as module
from minigrad.models.text import Text, default_text, encoded, read_text

TEXTS = st.text(alphabet="ab京🎈é .\n\n", min_size=1, max_size=80)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that a short text has many."""
    monkeypatch.setattr(module, "BLOCK", 7)


def test_line_ends_and_byte_order_marks_are_read_away(tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes("\ufeffone\r\ntwo\r\rthr\r\nee\r".encode())
    text = read_text(path)
    assert (text.name, text.content) == ("windows.txt", "one\ntwo\n\nthr\nee\n")
    path.write_bytes("ab\ufeffc\ufeff".encode())  # a mark elsewhere is a character
    assert read_text(path).content == "ab\ufeffc\ufeff"


@given(text=TEXTS, ends=st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_file_is_the_text_that_was_written(text, ends):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.txt")
        with open(path, "wb") as file:
            file.write(text.replace("\n", ends).encode())
        read, whole = read_text(path), Text("a.txt", text)
        assert read.content == whole.content == "".join(whole.blocks()) == text
        assert read.fingerprint() == whole.fingerprint() and read.characters == len(text)
        for found, expected in zip(read.parts(), (text[: int(0.9 * len(text))], text[int(0.9 * len(text)) :])):
            assert found.content == expected


@given(text=TEXTS)
def test_no_word_is_cut_in_two_parts(text):
    train, held_out = Text("a", text).parts("word")
    assert train.content + held_out.content == text and train.characters >= int(0.9 * len(text))
    assert not held_out.content or train.content[-1].isspace()
    assert not any(c.isspace() for c in text[int(0.9 * len(text)) : train.characters - 1])


@given(text=TEXTS, kind=st.sampled_from(["characters", "words", "spaces"]), most=st.none() | st.integers(1, 90))
def test_symbols_on_the_disk_are_those_of_the_text_in_memory(text, kind, most):
    v = CharVocabulary.of(text) if kind == "characters" else WordVocabulary.of("a b ab 京 .", tokens=kind)
    ids = encoded(v, Text("a", text), most)
    np.testing.assert_array_equal(ids, v.encode(text)[:most])
    assert ids.dtype == np.int32 and type(ids) is np.ndarray


def test_the_temporary_file_goes_with_its_array(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ids = encoded(CharVocabulary.of("ab"), Text("a", "abba" * 10))
    assert ids.sum() == 20 and (os.name == "nt" or list(tmp_path.iterdir()) == [])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"temporary folder.*TMPDIR"):
        encoded(CharVocabulary.of("ab"), Text("a", "abba"))


BAD = {
    "invalid": (b"good text " * 10 + b"\xff more", r"byte 0xff at 100, which is not UTF-8.*iconv"),
    "invalid behind a mark": (b"\xef\xbb\xbf" + b"ab" * 20 + b"\xe9 more", "byte 0xe9 at 43,"),
    "invalid on an edge": ("é".encode() * 20 + b"\xc3" + b"abc", "byte 0xc3 at 40,"),
    "cut short": (("京" * 9).encode()[:-1], "byte 0xe4 at 24,"),
    "binary": (b"good text " * 3 + b"\0", r"binary data \(a zero byte at 30\)"),
    "empty": (b"", "an empty file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_the_place(tmp_path, name):
    data, said = BAD[name]
    path = tmp_path / "bad.txt"
    path.write_bytes(data)
    with pytest.raises(UserError, match=said) as error:
        encoded(WordVocabulary.of("good text"), read_text(path))
    assert str(error.value).startswith(f"[text {path}] got ")


def test_a_character_that_is_not_known_is_named_with_its_place():
    with pytest.raises(UserError, match=r"\[text new\] got the character 'X' \(U\+0058\) at position 30"):
        encoded(CharVocabulary.of("ab"), Text("new", "ab" * 15 + "X"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_pipe_is_read_once(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=("from a pipe\n" * 5,), daemon=True)
    writer.start()
    text = read_text(path)
    assert text.content == text.content == "from a pipe\n" * 5


def test_the_default_text_is_english_and_the_same_every_time():
    text = default_text()
    assert text.content == default_text().content and text.characters > 300_000 and " the " in text.content
    train, held_out = text.parts()
    assert train.content + held_out.content == text.content and 0.09 < held_out.characters / text.characters < 0.11
