"""Floor 7: word vectors as rows of a word and its numbers: the text and the binary of word2vec, the text of GloVe."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from minigrad.models.embed.formats import decimal
from minigrad.models.embed.formats.content import (
    LONGEST,
    Source,
    begin_of,
    columns,
    header_of,
    sample,
    words_of,
)
from minigrad.models.embed.vectors import WordVectors

STEP = 4096  # rows at a time
COUNTS = "the counts in its first line, or the file, are damaged"


def read_text(source: Source, headed: bool) -> WordVectors:
    """Lines ``word number ... number``; ``headed``: behind a line "V D"."""
    data, first = source.data, 1 + headed
    if headed:
        header, at = header_of(data)
        assert header is not None
        count, dim = header
        if 2 * dim > len(data):
            raise source.bad(f"a first line that says {dim:,} numbers a word", "as many as the file can hold", COUNTS)
        seen = columns(sample(data, at))
        if dim < 1 or count < 1:
            raise source.bad(f"a first line that says {count:,} words of {dim:,} numbers", "one of each at least")
        if seen and seen != dim:
            raise source.bad(f"lines of {seen:,} numbers, where the first says {dim:,}", "a first line that is right")
    else:
        at = begin_of(data)
        dim = columns(sample(data, at))
        count = 1 + sum(data[i : i + (1 << 24)].count(b"\n") for i in range(at, len(data), 1 << 24))
    n = source.first(count)
    array = np.empty((min(n, (len(data) - at) // (2 * dim + 1) + 1), dim), np.float32)
    text, spans, raw = np.frombuffer(data, np.uint8), np.empty((STEP, 2), np.int64), []  # type: ignore[var-annotated]
    while (row := len(raw)) < len(array):
        block = array[row : row + STEP]
        found, at = decimal.parse(text, at, block, spans)
        raw += [data[begin:end] for begin, end in spans[:found].tolist()]
        if found < len(block):
            end = data.find(b"\n", at)
            line = data[at : end if end >= 0 else len(data)]
            if not line.strip() and not data[at:].strip():
                break
            word, values = _by_hand(source, line, dim, f"line {first + len(raw)}")
            with np.errstate(over="ignore"):
                array[len(raw)] = values
            raw.append(word)
            at = len(data) if end < 0 else end + 1
    if headed and len(raw) < n:
        raise source.bad(f"{len(raw):,} rows, where the first line says {count:,}", "all of them", COUNTS)
    if headed and n == count and data[at:].strip():
        got = f"line {first + n} behind the {count:,} rows that the first line says"
        raise source.bad(got, "the end of the file", COUNTS)
    return _built(source, raw, array[: len(raw)], "line", first)


def _by_hand(source: Source, line: bytes, dim: int, place: str) -> tuple[bytes, list[float]]:
    """A line that the kernel cannot read: numbers of many digits, or one that is wrong."""
    parts = line.rsplit(None, dim)
    if len(parts) <= dim:
        if len(parts) == dim and line[:1].isspace():
            parts = [b"", *parts]
        else:
            got = f"{max(len(parts) - 1, 0):,} numbers" if parts else "nothing"
            raise source.bad(f"{got} in {place}", f"{dim:,} behind the word", "the file may be cut off")
    try:
        return parts[0].strip(), [float(part) for part in parts[1:]]
    except ValueError as error:
        raise source.bad(f"{str(error).split(': ')[-1]} in {place}", f"{dim:,} numbers behind the word") from None


def read_binary(source: Source) -> WordVectors:
    """Behind a line "V D" rows of a word, a space and D float32; a line end behind each or not."""
    data = source.data
    header, at = header_of(data)
    assert header is not None
    count, dim = header
    if dim < 1 or count < 1:
        raise source.bad(f"a first line that says {count:,} words of {dim:,} numbers", "one of each at least")
    if 4 * dim > len(data):
        raise source.bad(f"a first line that says {dim:,} numbers a word", "as many as the file can hold", COUNTS)
    n, size, total = source.first(count), 4 * dim, len(data)
    array = np.empty((min(n, (total - at) // (size + 1) + 1), dim), "<f4")
    raw, view, into = [], memoryview(data), memoryview(array).cast("B")
    for row in range(n):
        while data[at : at + 1] == b"\n":
            at += 1
        space = data.find(b" ", at, at + LONGEST)
        end = space + 1 + size
        if at >= total or (space >= 0 and end > total):
            raise source.bad(f"an end within row {row + 1:,} of {count:,}", "whole rows", COUNTS)
        if space < 0:
            raise source.bad(f"no word in row {row + 1:,} of {count:,}", "a word and a space", COUNTS)
        raw.append(data[at:space])
        into[row * size : (row + 1) * size] = view[space + 1 : end]
        at = end
    if n == count and data[at : at + 64].strip(b"\n"):
        got = f"{total - at:,} bytes behind the {count:,} rows that the first line says"
        raise source.bad(got, "the end of the file", COUNTS)
    return _built(source, raw, array, "row", 1)


def _built(source: Source, raw: list[bytes], array: np.ndarray, unit: str, first: int) -> WordVectors:
    words, rows = words_of(source, raw, array, unit, first)
    kept = array if len(rows) == len(array) else array[rows]
    return WordVectors(words, kept.astype(np.float32, copy=False))


def write_text(file: BinaryIO, vectors: WordVectors, headed: bool) -> None:
    if headed:
        file.write(f"{len(vectors)} {vectors.dim}\n".encode())
    elif vectors.words[0].startswith("\ufeff"):
        file.write("\ufeff".encode())  # the first of the file is no part of the text
    step = max(1, 1_000_000 // vectors.dim)
    for i in range(0, len(vectors), step):
        block = slice(i, i + step)
        file.write(decimal.render([word.encode() for word in vectors.words[block]], vectors.array[block]))


def write_binary(file: BinaryIO, vectors: WordVectors) -> None:
    file.write(f"{len(vectors)} {vectors.dim}\n".encode())
    size, data = 4 * vectors.dim, memoryview(np.ascontiguousarray(vectors.array, "<f4")).cast("B")
    for i in range(0, len(vectors), STEP):
        pieces = []
        for row, word in enumerate(vectors.words[i : i + STEP], i):
            pieces += [word.encode(), b" ", data[row * size : (row + 1) * size]]
        file.write(b"".join(pieces))
