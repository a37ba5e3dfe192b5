"""Floor 7: the ``.bin`` of fastText, version 12, not quantised: words with counts, and rows of words and n-grams.

As written by ``FastText::saveModel``: settings, dictionary, the input matrix (V + buckets, D), the output matrix.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np

from minigrad.models.embed.formats.content import FASTTEXT, LONGEST, Source, words_of
from minigrad.models.embed.subwords import NGrams, Subwords
from minigrad.models.embed.vectors import WordVectors

SETTINGS = struct.Struct("<12id")  # dim ws epoch minCount neg wordNgrams loss model bucket minn maxn lrUpdateRate t
SIZES = struct.Struct("<3iqq")  # size, words, labels, tokens, pruned index
NEGATIVE_SAMPLING, SKIP_GRAM, SUPERVISED = 2, 2, 3


def read_fasttext(source: Source) -> WordVectors:
    """Words, counts, and vectors made of their own row and of their n-grams."""
    data, at = source.data, 8
    try:
        (version,) = struct.unpack_from("<i", data, 4)
        dim, *_, model, buckets, low, high, _, _ = SETTINGS.unpack_from(data, at)
        size, count, _, _, pruned = SIZES.unpack_from(data, at + SETTINGS.size)
        at += SETTINGS.size + SIZES.size
        if version not in (11, 12):
            raise source.bad(f"version {version} of fastText's files", "version 12 (or 11)")
        if not 0 < count <= size or dim < 1 or min(buckets, low, high) < 0:
            raise source.bad(f"{count:,} words of {dim:,} numbers", "one of each at least", "the file is damaged")
        if pruned >= 0:
            raise source.bad("a pruned model of fastText (a quantised .ftz)", "one as it was before fasttext quantize")
        if high == 0 or (version == 11 and model == SUPERVISED):
            low = high = 0
        raw, counts = [], np.empty(count, np.int64)
        for row in range(size):
            end = data.find(b"\0", at, at + LONGEST)
            if end < 0:
                raise source.bad(f"no word in row {row + 1:,} of its dictionary", "one that ends", "it is damaged")
            times, _label = struct.unpack_from("<qb", data, end + 1)
            if row < count:  # labels come behind the words
                raw.append(data[at:end])
                counts[row] = times
            at = end + 10
        quantised, rows, width = struct.unpack_from("<?qq", data, at)
        at += 17
    except struct.error:
        raise source.bad("a file that is cut off in its dictionary", "a whole one") from None
    if quantised:
        raise source.bad("a quantised model of fastText (.ftz)", "one as it was before fasttext quantize")
    if width != dim or rows != count + buckets:
        raise source.bad(f"{rows:,} rows of {width:,} numbers", f"{count:,} words + {buckets:,} buckets of {dim:,}")
    if len(data) < at + 4 * rows * dim:
        found = (len(data) - at) // (4 * dim)
        raise source.bad(f"{found:,} of {rows:,} rows", "all of them", "the file is cut off")
    matrix = np.frombuffer(data, "<f4", rows * dim, at).reshape(rows, dim)  # (V + buckets, D)
    n = source.first(count)
    words, own = words_of(source, raw[:n], matrix[:n], "row", 1)
    if not high:  # no n-grams: whatever is behind the words is of word n-grams
        return WordVectors(words, matrix[own].astype(np.float32), _known(counts[own]))
    kept = np.empty((len(own) + buckets, dim), np.float32)
    kept[: len(own)], kept[len(own) :] = matrix[own], matrix[count:]
    if not np.isfinite(kept).all():
        raise source.bad("NaN or Inf in the rows of its n-grams", "finite numbers")
    subwords = Subwords(kept, words, low, high, buckets)
    array = subwords.compose([raw[i] for i in own], np.arange(len(own)))
    return WordVectors(words, array, _known(counts[own]), subwords)


def _known(counts: np.ndarray) -> np.ndarray | None:
    """None for the ones that stand for no counts, which the format cannot leave out."""
    return None if (counts == 1).all() else counts


def write_fasttext(file: BinaryIO, vectors: WordVectors) -> None:
    """A skip-gram model with its input matrix; the output matrix, which vectors lack, is zero, as before training."""
    subwords, (count, dim) = vectors.subwords, vectors.array.shape
    ngrams = NGrams(0, 0, 0) if subwords is None else subwords.ngrams
    rows = vectors.array if subwords is None else subwords.rows  # (V + buckets, D)
    counts = np.ones(count, np.int64) if vectors.counts is None else vectors.counts
    file.write(FASTTEXT + struct.pack("<i", 12))
    file.write(SETTINGS.pack(dim, 5, 5, 1, 5, 1, NEGATIVE_SAMPLING, SKIP_GRAM, ngrams.buckets,
                             ngrams.low, ngrams.high, 100, 1e-4))  # fmt: skip
    file.write(SIZES.pack(count, count, 0, int(counts.sum()), -1))
    pack = struct.Struct("<xqb").pack
    file.write(b"".join([word.encode() + pack(times, 0) for word, times in zip(vectors.words, counts.tolist())]))
    file.write(struct.pack("<?qq", False, len(rows), dim))
    file.write(np.ascontiguousarray(rows, "<f4").data)
    file.write(struct.pack("<?qq", False, count, dim))
    zeros = bytes(4 * dim)
    for i in range(0, count, 4096):
        file.write(zeros * min(4096, count - i))
