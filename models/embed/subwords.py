"""Floor 7: fastText's subwords: n-grams of characters, hashed into buckets, so that unseen words have vectors.

Bojanowski, Grave, Joulin and Mikolov 2017, "Enriching Word Vectors with Subword Information"; the hash and its quirks
are those of the program's ``Dictionary::computeSubwords``, so that its files mean the same here.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.kernels.cpu.build import Kernel

SENTENCE_END = "</s>"  # fastText's word for it, which has no n-grams


def hash_ngrams(text, ends, low, high, buckets, offsets, ids):
    """FNV-1a of every n-gram of every word: text int8, of which word i ends before ends[i]; ids[offsets[i]:]."""
    begin = 0
    for w in range(ends.size):
        end, at = ends[w], offsets[w]
        for i in range(begin, end if offsets[w + 1] > at else begin):
            if text[i] < -64:  # 10xxxxxx: not the first byte of a character
                continue
            h, j, n = np.uint32(2166136261), i, 0
            while j < end and n < high:
                n += 1
                h = np.uint32(np.uint32(h ^ np.uint32(text[j])) * np.uint32(16777619))  # the byte with its sign
                j += 1
                while j < end and text[j] < -64:
                    h = np.uint32(np.uint32(h ^ np.uint32(text[j])) * np.uint32(16777619))
                    j += 1
                if n >= low and not (n == 1 and (i == begin or j == end)):
                    ids[at] = np.int32(h % buckets)
                    at += 1
        begin = end


def mean_rows(rows, own, offsets, ids, words, out):
    """out[i] = the mean of rows[own[i]] (unless own[i] < 0) and of its n-grams' rows[words + id]; 0 without any."""
    dim = out.shape[1]
    for w in range(out.shape[0]):
        n = offsets[w + 1] - offsets[w]
        for d in range(dim):
            out[w, d] = 0.0
        if own[w] >= 0:
            n += 1
            for d in range(dim):
                out[w, d] = rows[own[w], d]
        for k in range(offsets[w], offsets[w + 1]):
            row = words + ids[k]
            for d in range(dim):
                out[w, d] += rows[row, d]
        if n > 1:
            for d in range(dim):
                out[w, d] = out[w, d] / n


_HASH, _MEAN = Kernel(hash_ngrams), Kernel(mean_rows)


@dataclass(frozen=True)
class NGrams:
    """The n-grams of ``<word>``, from ``low`` to ``high`` characters, as bucket numbers 0 .. buckets - 1.

    FNV-1a, 32 bit, over the UTF-8 bytes taken as signed (fastText's), modulo ``buckets``. ``<`` and ``>`` alone are
    no n-grams, ``</s>`` has none. buckets = 0 or high = 0: no n-grams at all.

    >>> NGrams(3, 6, 2_000_000).ids("to").tolist()              # <to, <to>, to>
    [818294, 1520984, 1798126]
    """

    low: int = 3
    high: int = 6
    buckets: int = 2_000_000

    def __post_init__(self) -> None:
        if min(self.low, self.high, self.buckets) < 0 or self.buckets >= 2**31:
            got = f"{self.low} to {self.high} characters, {self.buckets} buckets"
            raise UserError(describe("n-grams", got, "numbers of at least 0, and buckets below 2^31"))

    def ids(self, word: str) -> np.ndarray:
        """Bucket numbers (n,) int32 of one word, in fastText's order."""
        return self.table([word])[1]

    def table(self, words: Iterable[str | bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Of many words: offsets (V + 1,) int64 and ids int32; of word i ``ids[offsets[i] : offsets[i + 1]]``.

        >>> offsets, ids = NGrams(3, 3, 100).table(["to", "</s>", "be"])
        >>> offsets.tolist(), ids.tolist()
        ([0, 2, 2, 4], [94, 26, 2, 78])
        """
        raw = [w if isinstance(w, bytes) else w.encode() for w in words]
        text = np.frombuffer(b"".join([b"<%b>" % w for w in raw]), np.int8)
        size = np.fromiter(map(len, raw), np.int64, len(raw)) + 2
        ends = size.cumsum()
        begun = np.concatenate([[0], (text >= -64).cumsum()])[np.concatenate([[0], ends])]
        chars = np.diff(begun)  # (V,) characters with < and >
        count = np.zeros(len(raw), np.int64)
        if self.buckets:
            longest = min(self.high, int(chars.max(initial=0)))
            for n in range(max(self.low, 1), longest + 1):
                count += np.maximum(chars - n + 1 - 2 * (n == 1), 0)
            end = SENTENCE_END.encode()
            count[[i for i, w in enumerate(raw) if w == end]] = 0
        offsets = np.concatenate([[0], count.cumsum()])
        ids = np.empty(offsets[-1], np.int32)
        if ids.size:
            _HASH[np.dtype(np.int32)](text, ends, self.low, self.high, np.uint32(self.buckets), offsets, ids)
        return offsets, ids


class Subwords:
    """Rows of words and buckets, of which the vectors of known and unseen words are made.

    vector(w) = the mean of w's own row (if it is known) and of the rows of its n-grams; 0 where there is neither.
    ``rows`` (V + buckets, D) float32: first those of the words, then those of the buckets.

    >>> rows = np.arange(12, dtype=np.float32).reshape(6, 2)    # one word, five buckets
    >>> s = Subwords(rows, ["to"], low=3, high=3, buckets=5)
    >>> s.ngrams.ids("to").tolist(), s.vector("to").tolist(), s.vector("be").tolist()
    ([4, 1], [4.666666507720947, 5.666666507720947], [7.0, 8.0])
    """

    def __init__(self, rows: np.ndarray, words: Mapping[str, int] | Sequence[str], low: int = 3, high: int = 6,
                 buckets: int = 2_000_000):  # fmt: skip
        self.ngrams = NGrams(low, high, buckets)
        self.known = words if isinstance(words, Mapping) else {w: i for i, w in enumerate(words)}
        self.rows = np.ascontiguousarray(rows, np.float32)  # (V + buckets, D)
        if self.rows.ndim != 2 or len(self.rows) != len(self.known) + buckets:
            expected = f"({len(self.known)} words + {buckets} buckets, D)"
            raise UserError(describe("subwords", f"rows {self.rows.shape}", expected))

    def vector(self, word: str) -> np.ndarray:
        """The vector (D,) of any word, known or not."""
        return self.vectors([word])[0]

    def vectors(self, words: Sequence[str]) -> np.ndarray:
        """The vectors (n, D) of many words."""
        own = np.fromiter((self.known.get(w, -1) for w in words), np.int64, len(words))
        return self.compose(words, own)

    def compose(self, words: Sequence[str | bytes], own: np.ndarray) -> np.ndarray:
        """The vectors (n, D) of words whose own rows are ``own``, -1: none; bytes, where a word is no UTF-8."""
        offsets, ids = self.ngrams.table(words)
        out = np.empty((len(words), self.rows.shape[1]), np.float32)
        _MEAN[out.dtype](self.rows, own, offsets, ids, len(self.known), out)
        return out
