"""Floor 7: reading and writing word vectors: word2vec text and binary, GloVe, fastText's ``.vec`` and ``.bin``, and
minigrad's own safetensors, each recognised by its content, gzipped or not."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.models.embed.formats.content import FORMATS, Source, open_source, recognise, words_of
from minigrad.models.embed.formats.fasttext import read_fasttext, write_fasttext
from minigrad.models.embed.formats.rows import read_binary, read_text, write_binary, write_text
from minigrad.models.embed.subwords import NGrams, Subwords
from minigrad.models.embed.vectors import WordVectors
from minigrad.nn.checkpoint import read as read_checkpoint
from minigrad.nn.checkpoint import replacing
from minigrad.nn.checkpoint import write as write_checkpoint

KIND = "word vectors"
ENDINGS = {".txt": "word2vec-text", ".vec": "vec", ".bin": "word2vec-binary", ".safetensors": "safetensors"}


def sniff(path: str | os.PathLike) -> str:
    """The format of a file by its content: word2vec-text (also fastText's .vec), word2vec-binary, glove, fasttext or
    safetensors; UserError if it is none of them.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "some.bin"
    >>> _ = path.write_text("2 3\\nking 1 0.5 -1\\nqueen 0 1 2e-3\\n")
    >>> sniff(path)
    'word2vec-text'
    """
    return recognise(open_source(path))


def read_vectors(path: str | os.PathLike, most: int | None = None, errors: str = "strict") -> WordVectors:
    """The word vectors of a file, the first ``most`` of them.

    ``errors="replace"``: bytes that are no UTF-8 become U+FFFD, and of a word that comes again the first is kept
    (gensim keeps it always); both are errors otherwise. White space within a word, as in glove.840B, becomes ``_``.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "glove.txt"
    >>> _ = path.write_text("king 1 0.5 -1\\nqueen 0 1 2e-3\\n")
    >>> v = read_vectors(path)
    >>> v.words, v.array.shape
    (('king', 'queen'), (2, 3))
    """
    return read_source(open_source(path, most, errors))[0]


def read_source(source: Source) -> tuple[WordVectors, str]:
    """The word vectors of an open file, and the name of its format; what else there is to say is in its notes."""
    name = recognise(source)
    if name == "fasttext":
        return read_fasttext(source), name
    if name == "safetensors":
        return _read_own(source), name
    if name == "word2vec-binary":
        return read_binary(source), name
    return read_text(source, headed=name == "word2vec-text"), name


def write_vectors(path: str | os.PathLike, vectors: WordVectors, format: str | None = None) -> None:
    """Write a file of a format of ``FORMATS``, or of that which the ending names: .txt and .vec are the text of
    word2vec, .bin its binary (fastText's only if asked for), .safetensors minigrad's own; .gz behind them packs.

    Text holds the least digits that give the same float32 again. Counts and subwords are kept by fasttext and
    safetensors alone. The file appears when it is whole.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "v.txt"
    >>> write_vectors(path, WordVectors(["king", "queen"], np.array([[1, 0.1], [2, 3e-9]], np.float32)))
    >>> path.read_text()
    '2 2\\nking 1.0 0.1\\nqueen 2.0 3.0e-09\\n'
    """
    name, packed = format_for(path, format), os.fspath(path).endswith(".gz")
    if name == "safetensors":
        write_checkpoint(path, *as_checkpoint(vectors))
        return
    if bad := next((word for word in vectors.words if "\0" in word), None):
        expected = "none with a zero byte, which ends a word in some formats"
        raise UserError(describe(f"write {path}", f"the word {bad!r}", expected, "use .safetensors"))
    with replacing(path) as file:
        to = gzip.GzipFile("", "wb", 6, file, mtime=0) if packed else file
        if name == "fasttext":
            write_fasttext(to, vectors)
        elif name == "word2vec-binary":
            write_binary(to, vectors)
        else:
            write_text(to, vectors, headed=name != "glove")
        if packed:
            to.close()


def check_out(out: str | os.PathLike, *sources: str | os.PathLike) -> None:
    """Before anything is read or trained: UserError unless ``out`` is a new file, an empty one or one of word vectors,
    and none of the files that are read."""
    where, out = f"out {out}", Path(out)
    if not out.exists():
        return
    if not out.is_file():
        raise UserError(describe(where, "a folder or a device", "the name of a file"))
    if any(os.path.exists(source) and os.path.samefile(source, out) for source in sources):
        raise UserError(describe(where, "a file that is read", "another name"))
    if out.stat().st_size:
        if not os.access(out, os.W_OK):
            raise UserError(describe(where, "a read-only file", "one to replace", "choose another name"))
        try:
            if sniff(out) in ("safetensors", "glove", "word2vec-text"):  # a model of another kind, or prose
                read_vectors(out, most=3)
        except UserError:
            got, do = "a file that holds no word vectors", "choose another name, or remove it"
            raise UserError(describe(where, got, "a new file, or word vectors to replace", do)) from None


def format_for(path: str | os.PathLike, format: str | None = None) -> str:
    """The name of the format to write: the one asked for, or that of the ending."""
    path = Path(path)
    packed = path.suffix == ".gz"
    ending = path.with_suffix("").suffix if packed else path.suffix
    name = ENDINGS.get(ending.lower()) if format is None else format
    if name not in FORMATS:
        got = f"format {format!r}" if format else f"the ending {ending!r}"
        expected = f"a format of {', '.join(FORMATS)}, or an ending of {', '.join(ENDINGS)}"
        raise UserError(describe(f"write {path}", got, expected))
    if packed and name == "safetensors":
        raise UserError(describe(f"write {path}", "a gzipped safetensors file", "it to be as it is", "leave .gz out"))
    return name


# ---------------------------------------------------------------- minigrad's own


def as_checkpoint(vectors: WordVectors) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and meta of minigrad's own file. More arrays may stand beside them."""
    words = "\n".join(vectors.words).encode()
    tensors = {"vectors": vectors.array, "words": np.frombuffer(words, np.uint8)}
    meta: dict[str, Any] = {"kind": KIND, "subwords": None}
    if vectors.counts is not None:
        tensors["counts"] = np.asarray(vectors.counts, np.int64)
    if vectors.subwords is not None:
        tensors["rows"] = vectors.subwords.rows
        meta["subwords"] = dict(vars(vectors.subwords.ngrams))
    return tensors, meta


def _read_own(source: Source) -> WordVectors:
    if source.packed or not Path(source.path).is_file():
        raise source.bad(
            "a safetensors file that is gzipped or comes through a pipe", "it as a file", "unpack it first"
        )
    tensors, meta = read_checkpoint(source.path)
    if meta.get("kind") != KIND:
        what = meta.get("class") or meta.get("kind") or "something else"
        raise source.bad(f"a minigrad file of {what}", "one of word vectors")
    array, words, counts, rows = (tensors.get(name) for name in ("vectors", "words", "counts", "rows"))
    about = meta.get("subwords")
    if (array is None or array.ndim != 2 or array.dtype != np.float32 or words is None or words.dtype != np.uint8
            or (counts is not None and (counts.shape != array.shape[:1] or counts.dtype != np.int64))
            or (about is None) != (rows is None)):  # fmt: skip
        raise source.bad("tensors that do not fit", "vectors, words, and counts or rows, if any", "it is damaged")
    raw = words.tobytes().split(b"\n")
    if len(raw) != len(array):
        raise source.bad(f"{len(raw):,} words for {len(array):,} vectors", "one each", "the file is damaged")
    n = source.first(len(array))
    names, own = words_of(source, raw[:n], array[:n], "row", 1)
    subwords = None
    if rows is not None:
        if (
            not isinstance(about, dict)
            or about.keys() != vars(NGrams()).keys()
            or rows.dtype != np.float32
            or {type(value) for value in about.values()} != {int}
        ):
            raise source.bad(f"subwords {about!r}", "low, high and buckets, and float32 rows", "the file is damaged")
        ngrams = NGrams(**about)
        if rows.shape != (len(array) + ngrams.buckets, array.shape[1]):
            expected = f"({len(array)} words + {ngrams.buckets} buckets, {array.shape[1]})"
            raise source.bad(f"rows {rows.shape}", expected, "the file is damaged")
        kept = rows if len(own) == len(array) else np.concatenate([rows[own], rows[len(array) :]])
        subwords = Subwords(kept, names, **about)
    return WordVectors(names, array[own], None if counts is None else counts[own], subwords)
