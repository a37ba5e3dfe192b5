"""Floor 7: files of word vectors: opening them, telling by their content what they are, and their words."""

from __future__ import annotations

import gzip
import mmap
import os
import re
import shutil
import stat
import tempfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from minigrad.errors import UserError, describe

FORMATS = ("word2vec-text", "word2vec-binary", "glove", "vec", "fasttext", "safetensors")
FASTTEXT = (793712314).to_bytes(4, "little")
EXPECTED = f"word vectors: {', '.join(FORMATS)}"
SAMPLE = 1 << 20  # bytes that are looked at
LONGEST = 1 << 16  # bytes of a word, at most

_HEADER = re.compile(rb"\s*(\d{1,18})[ \t]+(\d{1,18})\s*\n?")
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1f]")
_SPACE = re.compile(r"[ \t\n\v\f\r]+")  # what WordVectors does not take
_FOREIGN = {
    b"PK\x03\x04": ("a zip file", "unpack it first"),
    b"BZh": ("a bzip2 file", "unpack it first"),
    b"\xfd7zXZ": ("an xz file", "unpack it first"),
    b"\x80": ("a pickle, as gensim's own save() writes", "write it there with save_word2vec_format"),
    b"\x89PNG": ("a PNG picture", ""),
    b"\xff\xd8\xff": ("a JPEG picture", ""),
    b"GIF8": ("a GIF picture", ""),
    b"%PDF": ("a PDF file", ""),
    b"\x93NUMPY": ("a NumPy array without words", ""),
    b"\x89HDF": ("an HDF5 file", ""),
}


@dataclass
class Source:
    """An open file, unpacked if it was gzipped, and what was found out while it was read."""

    path: str | os.PathLike
    data: mmap.mmap
    packed: bool  # gzip
    errors: str = "strict"
    most: int | None = None
    notes: list[str] = field(default_factory=list)

    def bad(self, got: str, expected: str, do: str = "") -> UserError:
        return UserError(describe(f"vectors {self.path}", got, expected, do))

    def first(self, count: int) -> int:
        """How many of so many rows are asked for."""
        return count if self.most is None else min(count, self.most)


def open_source(path: str | os.PathLike, most: int | None = None, errors: str = "strict") -> Source:
    """A file, gzipped or not, or a pipe, mapped into memory."""
    if errors not in ("strict", "replace"):
        raise UserError(describe("errors", repr(errors), "strict or replace"))
    if most is not None and most < 1:
        raise UserError(describe("most", str(most), "a number of words of at least 1"))
    where = f"vectors {path}"
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise UserError(describe(where, "a folder" if stat.S_ISDIR(mode) else "a device", "a file"))
        with open(path, "rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            if not packed and stat.S_ISREG(mode):
                return Source(path, _mapped(file, where), packed, errors, most)
            with tempfile.TemporaryFile(prefix="minigrad-") as unpacked:
                shutil.copyfileobj(gzip.GzipFile(fileobj=file) if packed else file, unpacked, 1 << 20)
                unpacked.flush()
                return Source(path, _mapped(unpacked, where), packed, errors, most)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(describe(where, f"a damaged gzip file ({error})", "a whole one")) from None
    except OSError as error:
        raise UserError(describe(where, error.strerror or str(error), "a readable file")) from None


def _mapped(file: object, where: str) -> mmap.mmap:
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # type: ignore[attr-defined]
    except ValueError:
        raise UserError(describe(where, "an empty file", EXPECTED)) from None


# ---------------------------------------------------------------- what it is


def recognise(source: Source) -> str:
    """The name of the format, from the content alone; UserError if it is none."""
    data = source.data
    head = data[:16]
    if head[:4] == FASTTEXT:
        return "fasttext"
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= len(data) - 8:
        return "safetensors"
    header, start = header_of(data)
    lines = sample(data, start)
    if header is not None:
        if _is_binary(data, start, *header):
            return "word2vec-binary"
        if header[1] == 1 or columns(lines) != 1:
            return "word2vec-text"  # else a word of digits and its only number
    lines = sample(data, begin_of(data))
    dim = columns(lines)
    if dim > 0 and 2 * sum(_numbers(line, dim) for line in lines[:10]) >= len(lines[:10]):
        return "glove"
    for magic, (what, do) in _FOREIGN.items():
        if head.startswith(magic):
            raise source.bad(what, EXPECTED, do)
    binary = _CONTROL.search(data[:SAMPLE])
    raise source.bad("other binary data" if binary else "lines that are no word with its numbers", EXPECTED)


def begin_of(data: mmap.mmap) -> int:
    """Behind the mark that some programs put before UTF-8."""
    return 3 if data[:3] == b"\xef\xbb\xbf" else 0


def header_of(data: mmap.mmap) -> tuple[tuple[int, int] | None, int]:
    """The two integers of a first line of nothing else, and where the next line begins."""
    begin = begin_of(data)
    end = data.find(b"\n", begin, begin + 100)
    found = _HEADER.fullmatch(data[begin : end if end >= 0 else begin + 100])
    if found is None:
        return None, begin
    return (int(found[1]), int(found[2])), len(data) if end < 0 else end + 1


def sample(data: mmap.mmap, start: int) -> list[bytes]:
    """The first lines that are whole, a hundred at most."""
    lines = data[start : start + SAMPLE].split(b"\n", 100)
    if len(lines) > 100 or (len(lines) > 1 and start + SAMPLE < len(data)):
        lines.pop()
    return [line for line in lines if line.strip()]


def columns(lines: Sequence[bytes]) -> int:
    """The numbers in a row, D: those of most lines that have but one word; 0 without lines."""
    sizes = [len(line.split()) for line in lines]
    counts = Counter(n for n, line in zip(sizes, lines) if _numbers(line, n - 1)) or Counter(sizes)
    return max(counts, key=lambda n: (counts[n], n)) - 1 if counts else 0


def _is_binary(data: mmap.mmap, at: int, count: int, dim: int) -> bool:
    """Of what is behind the first line: no numbers, but zero bytes and their like, or rows that end where they must."""
    lines = sample(data, at)
    if all(_numbers(line, max(columns(lines), 1)) for line in lines[:3]):
        return False
    if _CONTROL.search(data[at : at + SAMPLE]):
        return True
    for _ in range(count):
        space = data.find(b" ", at, at + LONGEST)
        at = space + 1 + 4 * dim
        if space < 0 or at > len(data):
            return False
    return not data[at : at + 64].strip(b"\n")


def _numbers(line: bytes, dim: int) -> bool:
    """Whether a line ends with so many numbers, behind a word."""
    parts = line.split()
    try:
        return 0 < dim < len(parts) and len(list(map(float, parts[-dim:]))) == dim
    except ValueError:
        return False


# ---------------------------------------------------------------- words


def words_of(
    source: Source, raw: list[bytes], array: np.ndarray, unit: str, first: int
) -> tuple[list[str], np.ndarray]:
    """The words of rows, and the numbers of the rows to keep; errors say ``unit`` and count from ``first``.

    NaN, Inf, invalid UTF-8, an empty word and one that was there before are errors. With ``errors`` "replace", bytes
    become U+FFFD and the rows of such words are left out. White space in a word becomes "_".
    """
    place = lambda row: f"{unit} {first + row:,}"
    finite = np.isfinite(array).all(1)
    if not finite.all():
        row = int(finite.argmin())
        raise source.bad(f"NaN or Inf in {place(row)}, {raw[row].decode(errors='replace')!r}", "finite float32 numbers")
    strict = source.errors == "strict"
    try:
        words = [word.decode() for word in raw] if strict else [word.decode(errors="replace") for word in raw]
    except UnicodeDecodeError as error:
        row = next(i for i, word in enumerate(raw) if word == error.object)
        do = "convert it with --errors replace, or read it with errors='replace'"
        raise source.bad(f"the word {error.object!r} in {place(row)}", "UTF-8", do) from None
    if spaced := [i for i, word in enumerate(words) if _SPACE.search(word)]:
        for i in spaced:
            words[i] = _SPACE.sub("_", words[i])
        source.notes.append(f"white space in {len(spaced):,} words is written _, as in {words[spaced[0]]}")
    seen: dict[str, int] = {}
    for i, word in enumerate(words):
        if seen.setdefault(word, i) != i and strict:
            do = "keep the first with --errors replace, or errors='replace'"
            raise source.bad(f"the word {word!r} in {place(seen[word])} and {place(i)}", "every word once", do)
    if "" in seen:
        if strict:
            do = "leave it out with --errors replace, or errors='replace'"
            raise source.bad(f"an empty word in {place(seen[''])}", "a word in every row", do)
        del seen[""]
    if not seen:
        raise source.bad("no words", EXPECTED)
    if len(seen) < len(words):
        source.notes.append(f"{len(words) - len(seen):,} rows of empty or repeated words are left out")
    return list(seen), np.fromiter(seen.values(), np.int64, len(seen))
