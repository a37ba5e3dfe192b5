"""Floor 7: texts: read block by block, so that one may be larger than memory, and encoded as integers in a file."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.models.vocabulary import Vocabulary

TRAINING_SHARE = 0.9  # of a text, by position; the rest is for validation
BLOCK = 1 << 20  # characters or bytes that are looked at together


class Text:
    """A text and what it is called: a string, or a function that gives its blocks, each time from the beginning.

    >>> text = Text("greeting", "hello, world")
    >>> text.fingerprint()["characters"], [part.content for part in text.parts()]
    (12, ['hello, wor', 'ld'])
    """

    def __init__(self, name: str, source: str | Callable[[], Iterator[str]]):
        self.name = name
        self._source = source

    def blocks(self) -> Iterator[str]:
        """The text, a block after the other."""
        s = self._source
        return (s[i : i + BLOCK] for i in range(0, len(s), BLOCK)) if isinstance(s, str) else s()

    @property
    def content(self) -> str:
        """The whole text in memory."""
        return self._source if isinstance(self._source, str) else "".join(self.blocks())

    @cached_property
    def _size_and_digest(self) -> tuple[int, str]:
        size, digest = 0, hashlib.sha256()
        for block in self.blocks():
            size += len(block)
            digest.update(block.encode())
        return size, digest.hexdigest()

    @property
    def characters(self) -> int:
        """How many there are."""
        return self._size_and_digest[0]

    def fingerprint(self) -> dict[str, Any]:
        """What tells this text from another, for a checkpoint."""
        size, digest = self._size_and_digest
        return {"name": self.name, "characters": size, "sha256": digest}

    def parts(self, unit: str = "character") -> tuple[Text, Text]:
        """The first nine tenths, to train on, and the last, to validate; if the ``unit`` is a word, none is parted."""
        n = self.characters
        cut = int(TRAINING_SHARE * n)
        if unit == "word":
            cut = self._behind_space(cut)
        return tuple(Text(self.name, partial(self._between, *part)) for part in ((0, cut), (cut, n)))

    def _behind_space(self, start: int) -> int:
        """The first position behind a space, from ``start`` on."""
        at = start
        for block in self._between(start, self.characters):
            if space := re.search(r"\s", block):
                return at + space.end()
            at += len(block)
        return at

    def _between(self, start: int, stop: int) -> Iterator[str]:
        """The blocks of a part."""
        at = 0
        for block in self.blocks():
            if part := block[max(start - at, 0) : max(stop - at, 0)]:
                yield part
            at += len(block)
            if at >= stop:
                return


def read_text(path: str | os.PathLike) -> Text:
    """A UTF-8 file, with line ends as ``\\n``; UserError if it is no file, and, when it is read, if it is empty, binary
    or in another encoding."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise UserError(_bad(path, error.strerror or str(error))) from None
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise UserError(_bad(path, "a folder" if stat.S_ISDIR(mode) else "a device"))
    name, blocks = Path(path).name, partial(_read, path)
    return Text(name, "".join(blocks()) if stat.S_ISFIFO(mode) else blocks)  # a pipe can be read but once


def _read(path: str | os.PathLike) -> Iterator[str]:
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    end = 0  # of what was read
    try:
        with open(path, "rb") as file:
            while data := file.read(BLOCK):
                if not end and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise UserError(_bad(path, "UTF-16", "convert it, for example with iconv -f UTF-16 -t UTF-8"))
                if b"\0" in data:
                    raise UserError(_bad(path, f"binary data (a zero byte at {end + data.index(0):,})"))
                begins, end = end == 0, end + len(data)
                block = decoder.decode(data)
                yield block.removeprefix("\ufeff") if begins else block
            yield decoder.decode(b"", final=True)
    except OSError as error:
        raise UserError(_bad(path, error.strerror or str(error))) from None
    except UnicodeDecodeError as error:  # error.object: what was left of the block before, and this one
        at = end - len(error.object) + error.start
        got = f"byte 0x{error.object[error.start]:02x} at {at:,}, which is not UTF-8"
        raise UserError(_bad(path, got, "convert it, for example with iconv")) from None
    if not end:
        raise UserError(_bad(path, "an empty file"))


def _bad(path: str | os.PathLike, got: str, do: str = "") -> str:
    return describe(f"text {path}", got, "a plain text file in UTF-8", do)


def default_text() -> Text:
    """The English text that every CPython carries: the help topics of the language, in alphabetical order."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise UserError(describe("text", "a Python without pydoc_data", "some text", "pass --text FILE")) from None
    return Text("pydoc_data.topics", "\n\n".join(topics[name] for name in sorted(topics)))


def encoded(vocabulary: Vocabulary, text: Text, most: int | None = None) -> np.ndarray:
    """Integers (n,) of a text, the first ``most`` of them, read from the disk as they are needed.

    They are kept in a nameless temporary file (in the folder that TMPDIR names) which ends with the process.

    >>> from minigrad.models import CharVocabulary
    >>> encoded(CharVocabulary.of("abc"), Text("three", "cab")).tolist()
    [2, 0, 1]
    """
    count, read = 0, 0
    try:
        with tempfile.TemporaryFile(prefix="minigrad-") as file:
            for piece in vocabulary.pieces(text.blocks()):
                ids = vocabulary.encode(piece, f"text {text.name}", read)[: None if most is None else most - count]
                file.write(ids.astype("<i4", copy=False).data)
                count, read = count + len(ids), read + len(piece)
                if count == most:
                    break
            file.flush()
            # a plain array over the mapped file, which stays as long as the array
            return np.asarray(np.memmap(file, "<i4", "r+")) if count else np.zeros(0, np.int32)
    except OSError as error:
        got, expected = error.strerror or str(error), "room for 4 bytes a symbol"
        raise UserError(describe("temporary folder", got, expected, "name another in TMPDIR")) from None
