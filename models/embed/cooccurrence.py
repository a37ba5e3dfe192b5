"""Floor 7: how often words stand near each other, counted in a table of fixed size that spills to a file.

A pair of words is a 64-bit key, mixed by a bijection, so that keys in order are pairs in no order. The table is spilled
in the order of its keys; runs are merged range of keys by range. So what comes out depends on neither the memory nor
the number of runs, and it is shuffled already. Weights 1/d are whole numbers until the end: sums are exact.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
import tempfile
from typing import IO, Any

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.kernels.cpu.build import Kernel

PAIRS = np.dtype([("i", "<i4"), ("j", "<i4"), ("x", "<f8")])
_INT = np.dtype(np.int64)


def mixed(i, j):
    """The key of a pair, i <= j: multiply, fold, multiply, each of which can be undone."""
    key = ((np.uint64(i) << np.uint64(32)) | np.uint64(j)) * np.uint64(0x9E3779B97F4A7C15)
    return (key ^ (key >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)


def unmixed(key):
    """i 2^32 + j; the factors are the inverses of those above, modulo 2^64."""
    key = key * np.uint64(0xCFEE444D8B59A89B)
    return (key ^ (key >> np.uint64(32))) * np.uint64(0xF1DE83E19937733D)


def put(key, weight, keys, sums, left, right):
    """Add to the sum of a key; 1 if it is new. A place is free where the sum is 0."""
    at = np.int64((key << left) >> right)
    while sums[at] != 0 and keys[at] != key:
        at += 1
    new = 1 if sums[at] == 0 else 0
    keys[at] = key
    sums[at] += weight
    return new


def count_kernel(tokens, first, words, weights, history, state, limit, keys, sums, left, right):
    """Go through tokens from state[0] on until the table is full; state: position, words of this sentence so far.

    Gives the number of keys, or -1 at a token that is no word.
    """
    at, seen, filled, window = state[0], state[1], 0, weights.size
    while at < tokens.size and filled + window <= limit:
        word = np.int64(tokens[at]) - first
        if word >= words:
            filled = -1
            break
        if word == -1:
            seen = 0
        if word >= 0:
            for d in range(1, min(seen, window) + 1):
                other = history[(seen - d) % window]
                weight = weights[d - 1] * (2 if other == word else 1)  # X is symmetric: i, j and j, i are one place
                filled += put(mixed(min(word, other), max(word, other)), weight, keys, sums, left, right)
            history[seen % window] = word
            seen += 1
        at += 1
    state[0], state[1] = at, seen
    return filled


def merge_kernel(flat, at, ends, last, limit, keys, sums, left, right):
    """Put what was spilled into a table: of each run the keys from position at[r] on, up to the key ``last``.

    A run that ends at ends[r] has its sums behind it. Gives the number of keys; one above the limit: the table is full.
    """
    filled = 0
    for r in range(at.size):
        k, length = at[r], ends[2 * r + 1] - ends[2 * r]
        while k < ends[2 * r] and flat[k] <= last and filled <= limit:
            filled += put(flat[k], np.int64(flat[k + length]), keys, sums, left, right)
            k += 1
        at[r] = k
    return filled


def drain_kernel(keys, sums, capacity):
    """Bring the entries to the front, in the order of their keys, and give their number.

    No place is far from where its key belongs, so sorting by insertion has little to do.
    """
    n, at = 0, 0
    while at < sums.size and (at < capacity or sums[at] != 0):
        if sums[at] != 0:
            key, total = keys[at], sums[at]
            sums[at] = 0
            k = n
            while k > 0 and keys[k - 1] > key:
                keys[k], sums[k] = keys[k - 1], sums[k - 1]
                k -= 1
            keys[k], sums[k] = key, total
            n += 1
        at += 1
    return n


def unpack_kernel(keys, sums, unit, ij, x):
    """Pairs from keys and sums, one half of them turned round; gives the number of pairs of a word with itself."""
    same = 0
    for k in range(keys.size):
        pair = unmixed(keys[k])
        i, j = np.int32(pair >> np.uint64(32)), np.int32(pair & np.uint64(0xFFFFFFFF))
        turned = np.int64(keys[k] & np.uint64(1))
        ij[4 * k + turned], ij[4 * k + 1 - turned] = i, j
        x[2 * k + 1] = sums[k] / unit
        if i == j:
            same += 1
    return same


_COUNT, _MERGE, _DRAIN, _UNPACK = (Kernel(f) for f in (count_kernel, merge_kernel, drain_kernel, unpack_kernel))


class Counts:
    """X (V, V), symmetric and mostly 0: x_ij = the sum of 1/distance over all places where i and j stand together.

    pairs (N,): fields ``i``, ``j``, ``x``: each pair of words once, as i, j or as j, i, in an order as good as random.
    ``len`` is the number of entries that are not 0: pairs of different words count twice.

    >>> counts = count(np.array([0, 1, 1], np.int32), words=2)
    >>> len(counts), sorted(counts.pairs["x"].tolist())
    (3, [1.5, 2.0])
    """

    def __init__(self, pairs: np.ndarray, words: int, same: int):
        self.pairs, self.words, self.same = pairs, words, same

    def __len__(self) -> int:
        return 2 * len(self.pairs) - self.same

    def dense(self) -> np.ndarray:
        """X (V, V), for a small vocabulary."""
        x = np.zeros((self.words, self.words))
        x[self.pairs["i"], self.pairs["j"]] = x[self.pairs["j"], self.pairs["i"]] = self.pairs["x"]
        return x


class _Table:
    """Sums by key: 2^bits places, and behind them room for keys that find theirs taken, which costs no memory until it
    is used. A key belongs at its first bits, without the ``prefix`` ones that all keys share."""

    def __init__(self, bits: int, prefix: int = 0):
        self.bits, self.left, self.right = bits, np.uint64(prefix), np.uint64(64 - bits)
        self.capacity = 1 << bits
        self.limit = self.capacity * 5 // 8
        self.sums = np.zeros(self.capacity + self.limit + 1, np.int64)
        self.keys = np.empty(len(self.sums), np.uint64)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What ``put`` takes of it."""
        return self.keys, self.sums, self.left, self.right

    def drain(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys in order and their sums, which are to be set to 0 when they were used."""
        n = _DRAIN[_INT](self.keys, self.sums, self.capacity)
        return self.keys[:n], self.sums[:n]


def count(tokens: np.ndarray, words: int, window: int = 10, memory: float = 512, first: int = 0) -> Counts:
    """Co-occurrences of words in a window of so many to the left and to the right, each weighted by 1/distance
    (Pennington, Socher and Manning 2014, section 4.2), exactly as the authors' program ``cooccur`` has them.

    tokens: (n,) int32, which may be memory-mapped: word i is ``first`` + i, 0 <= i < V; ``first`` - 1 ends a sentence,
            which no window crosses; all below are unknown words, left out as if they were not there
    words:  V
    memory: megabytes for the table and for writing; what does not fit goes to a temporary file (see TMPDIR)

    >>> count(np.array([0, 1, 0, 2, -1, 2], np.int32), words=3, window=2).dense().tolist()
    [[1.0, 2.0, 1.0], [2.0, 0.0, 0.5], [1.0, 0.5, 0.0]]
    """
    if window < 1 or words < 1:
        raise UserError(describe("co-occurrences", f"window {window} of {words} words", "1 or more"))
    bits = int(math.log2(max(memory, 1e-9) * 2**20 / 32))  # 16 bytes a place, and as many again to write a range
    if 2 ** max(bits, 0) * 5 // 8 < window or bits > 40:
        raise UserError(describe("co-occurrences", f"memory of {memory:g} MB", f"more, for a window of {window}"))
    unit = math.lcm(*range(1, min(window, 22) + 1)) if window <= 22 else 1 << 28
    weights = np.array([round(unit / d) for d in range(1, window + 1)])  # exact up to a window of 22, else to 2^-28 d
    tokens = np.ascontiguousarray(tokens, np.int32)
    try:
        with tempfile.TemporaryFile(prefix="minigrad-") as spilled:
            table = _Table(bits)
            lengths = _spill(tokens, first, words, weights, table, spilled)
            return _merge(spilled, lengths, table, unit, words)
    except OSError as error:
        got, expected = error.strerror or str(error), "room for 16 bytes a pair of words, several times"
        raise UserError(describe("temporary folder", got, expected, "name another in TMPDIR")) from None


def _spill(tokens: np.ndarray, first: int, words: int, weights: np.ndarray, table: _Table, file: IO) -> list[int]:
    """Count all tokens; gives the lengths of the runs in the file, each its keys, in order, and then their sums."""
    state, history, lengths = np.zeros(2, np.int64), np.zeros(len(weights), np.int64), []
    while state[0] < len(tokens):
        filled = _COUNT[_INT](tokens, first, words, weights, history, state, table.limit, *table.arguments)
        if filled < 0:
            got = f"{tokens[state[0]]} at {state[0]:,}"
            raise UserError(describe("co-occurrences", got, f"tokens below {first + words}"))
        keys, sums = table.drain()
        lengths.append(len(keys))
        file.write(keys.data)
        file.write(sums.data)
        sums[:] = 0
    file.flush()
    return lengths


def _merge(file: IO, lengths: list[int], table: _Table, unit: int, words: int) -> Counts:
    """The sums of all runs, range of keys by range, so that the entries of a range fit into the table."""
    if not sum(lengths):
        return Counts(np.zeros(0, PAIRS), words, 0)
    flat: Any = np.asarray(np.memmap(file, np.uint64, "r"))
    ends = np.cumsum(np.repeat(lengths, 2))  # of the keys and of the sums of each run
    at = np.append(0, ends[1:-1:2])
    prefix = max(0, math.ceil(math.log2(sum(lengths) / (0.8 * table.limit)))) if len(lengths) > 1 else 0
    table.left = np.uint64(prefix)
    same, total = 0, 0
    with tempfile.TemporaryFile(prefix="minigrad-") as result:
        for r in range(1 << prefix):
            last, start = np.uint64(((r + 1) << (64 - prefix)) - 1), at.copy()
            while _MERGE[_INT](flat, at, ends, last, table.limit, *table.arguments) > table.limit:
                at, table = start.copy(), _Table(table.bits + 1, prefix)  # a small one may be full, by chance
            keys, sums = table.drain()
            pairs = np.empty(len(keys), PAIRS)
            same += _UNPACK[_INT](keys, sums, unit, pairs.view(np.int32), pairs.view(np.float64))
            result.write(pairs.data)
            total += len(pairs)
            sums[:] = 0
        result.flush()
        return Counts(np.asarray(np.memmap(result, PAIRS, "r", shape=(total,))), words, same)
