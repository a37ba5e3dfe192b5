"""Floor 7: what skip-gram, CBOW and their kin learn from: blocks of inputs and labelled outputs.

A block is a few rows of W, a few rows of C, and for each of these a label: 1 for what was seen, 0 for what was drawn. A
piece of text becomes blocks in three steps (Mikolov et al. 2013): frequent words are left out by chance, each word gets
a window by chance, and each word that is to be predicted gets its outputs:

    negative sampling      itself, and words drawn from f^0.75
    hierarchical softmax   the inner nodes on the way from the root of a Huffman tree, labels being the turns

Inputs are the words around the predicted one (skip-gram: each by itself; CBOW: together). With subwords, they are the
n-grams of a word, and skip-gram predicts the words around it (Bojanowski et al. 2017).
"""

# mypy: ignore-errors

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import numpy as np

from minigrad.kernels.cpu.build import Kernel
from minigrad.models.sampling import Alias

FIRST = 2  # ids of a WordVocabulary below this are <UNK> and <EOS>; word w has id FIRST + w


class Blocks(NamedTuple):
    """Block n has inputs ``rows[row_start[n]:row_start[n + 1]]``, outputs and labels likewise."""

    rows: np.ndarray  # (R,) int32, of W
    row_start: np.ndarray  # (N + 1,)
    outputs: np.ndarray  # (M,) int32, rows of C
    labels: np.ndarray  # (M,) int8
    output_start: np.ndarray  # (N + 1,)
    pairs: int  # of inputs (CBOW: of their mean) and words that are to be predicted

    def __len__(self) -> int:
        return len(self.row_start) - 1


# ---------------------------------------------------------------- kernels


def stirred(s):
    """The two rounds of SplitMix64 (Steele, Lea and Flood 2014)."""
    s = (s ^ (s >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return (s ^ (s >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)


def random_bits(state):
    """64 random bits: SplitMix64."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    s = stirred(state[0])
    return s ^ (s >> np.uint64(31))


def below(bits, n):
    """An integer of 0 .. n-1, n < 2^32, of the upper half of 64 random bits."""
    return np.int64(((bits >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


def random_share(state):
    """A number in [0, 1)."""
    return np.float64(random_bits(state) >> np.uint64(11)) * np.float64(1.1102230246251565e-16)


def thinned(tokens, keep, state, kept):
    """Words of a text, -1 for the end of a sentence: unknown words are left out, and word w with 1 - keep[w]."""
    n = 0
    for token in tokens:
        if token >= 2:
            if keep[token - 2] >= 1 or random_share(state) < keep[token - 2]:
                kept[n] = token - 2
                n += 1
        elif token == 1:
            kept[n] = -1
            n += 1
    return n


def outputs_of(word, negatives, bins, path, path_start, turns, state, outputs, labels, m):
    """Write the outputs that predict a word from m on; where they end. With no negatives it is the word's path."""
    if negatives == 0:
        for p in range(path_start[word], path_start[word + 1]):
            outputs[m], labels[m] = path[p], turns[p]
            m += 1
        return m
    outputs[m], labels[m] = word, 1
    m += 1
    for _ in range(negatives):
        bits = random_bits(state)
        i = below(bits, bins.shape[0])
        low = np.int64(bits & np.uint64(0xFFFFFFFF))
        drawn = i if low < np.int64(bins[i, 0]) else np.int64(bins[i, 1])
        if drawn != word:
            outputs[m], labels[m] = drawn, 0
            m += 1
    return m


def draw_blocks(tokens, keep, window, negatives, bins, path, path_start, turns, bags, bag_start,
                together, seed, kept, rows, row_start, outputs, labels, output_start):  # fmt: skip
    """Fill blocks from a piece of text; how many, with how many pairs. ``bags``, the rows of each word, are empty where
    word w is row w."""
    state = np.empty(1, np.uint64)
    state[0] = seed
    length = thinned(tokens, keep, state, kept)
    n, r, m, pairs = 0, 0, 0, 0
    row_start[0], output_start[0] = 0, 0
    for t in range(length):
        word = kept[t]
        if word < 0:
            continue
        reach = 1 + below(random_bits(state), window)
        first, last = t, t
        while first > 0 and t - first < reach and kept[first - 1] >= 0:
            first -= 1
        while last + 1 < length and last - t < reach and kept[last + 1] >= 0:
            last += 1
        if first == last:
            continue
        if bags.size and not together:  # the word gives the inputs, those around it are predicted
            for i in range(bag_start[word], bag_start[word + 1]):
                rows[r] = bags[i]
                r += 1
            for s in range(first, last + 1):
                if s != t:
                    m = outputs_of(kept[s], negatives, bins, path, path_start, turns, state, outputs,
                                   labels, m)  # fmt: skip
        else:
            for s in range(first, last + 1):
                if s == t:
                    continue
                if bags.size:
                    for i in range(bag_start[kept[s]], bag_start[kept[s] + 1]):
                        rows[r] = bags[i]
                        r += 1
                else:
                    rows[r] = kept[s]
                    r += 1
            m = outputs_of(word, negatives, bins, path, path_start, turns, state, outputs, labels, m)
        n += 1
        pairs += 1 if together else last - first
        row_start[n], output_start[n] = r, m
    return n, pairs


_DRAW = Kernel(draw_blocks)


# ---------------------------------------------------------------- what is drawn, and how


def kept_share(counts: np.ndarray, threshold: float) -> np.ndarray:
    """How likely each occurrence of a word is kept: (sqrt(f/t) + 1) t/f, at most 1 (V,), as in word2vec's code; t = 0
    keeps all.

    >>> kept_share(np.array([900, 99, 1]), 0.01).round(3).tolist()
    [0.117, 0.419, 1.0]
    """
    if not threshold:
        return np.ones(len(counts))
    f = counts / (counts.sum() * threshold)
    return np.minimum(1.0, (np.sqrt(f) + 1) / f)


def huffman(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paths to the leaves of a Huffman tree of V words: inner nodes 0 .. V-2 and turns, from the root on; word w has
    those of ``start[w]:start[w + 1]``.

    >>> nodes, turns, start = huffman(np.array([4, 2, 1]))
    >>> [list(zip(nodes[a:b].tolist(), turns[a:b].tolist())) for a, b in zip(start, start[1:])]
    [[(1, 1)], [(1, 0), (0, 1)], [(1, 0), (0, 0)]]
    """
    V = len(counts)
    parent, turn = [0] * (2 * V - 1), [0] * (2 * V - 1)
    heap = [(c, i) for i, c in enumerate(counts.tolist())]
    heapify(heap)
    for node in range(V, 2 * V - 1):
        (a, i), (b, j) = heappop(heap), heappop(heap)
        parent[i], parent[j], turn[j] = node, node, 1
        heappush(heap, (a + b, node))
    nodes: list[int] = []
    turns: list[int] = []
    start = [0]
    for at in range(V):
        way = []
        while at != 2 * V - 2:
            way.append((parent[at] - V, turn[at]))
            at = parent[at]
        nodes += [node for node, _ in reversed(way)]
        turns += [t for _, t in reversed(way)]
        start.append(len(nodes))
    return np.array(nodes, np.int32), np.array(turns, np.int8), np.array(start)


def _bins(alias: Alias) -> np.ndarray:
    """(V, 2) uint32: 2^32 times how likely bin i means i, and what it means else; so one random number draws a word."""
    return np.stack([np.minimum(alias.keep * 2.0**32, 2.0**32 - 1).astype(np.uint32), alias.other.astype(np.uint32)], 1)


@dataclass(frozen=True)
class Drawing:
    """How a text becomes blocks.

    counts:     how often each word occurs (V,)
    window:     words on either side, at most; each place has a reach of 1 .. window with equal chance
    negatives:  K words drawn from counts^power for each predicted one; 0: hierarchical softmax
    together:   whether the words around are one input (CBOW)
    threshold:  of ``kept_share``
    bags:       rows of W of each word, and where those of each begin (V + 1,); without them word w is row w

    >>> drawing = Drawing(np.array([5, 5, 5, 5]), window=1, negatives=2)
    >>> blocks = drawing(np.array([2, 3, 1, 4, 5], np.int32), seed=7)  # two sentences of two words
    >>> [(b.tolist(), c.tolist()) for b, c in zip(*(np.split(a, s[1:-1]) for a, s in (blocks[:2], blocks[2:5:2])))]
    [([1], [0, 3]), ([0], [1, 0]), ([3], [2, 1, 0]), ([2], [3, 0])]
    """

    counts: np.ndarray
    window: int = 5
    negatives: int = 5
    together: bool = False
    threshold: float = 0.0
    power: float = 0.75
    bags: tuple[np.ndarray, np.ndarray] | None = None
    _tables: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        nodes, turns, start = huffman(self.counts) if not self.negatives else (np.zeros(0, np.int32),) * 3
        bags, bag_start = self.bags or (np.zeros(0, np.int32), np.zeros(0, np.int64))
        self._tables.update(
            keep=kept_share(self.counts, self.threshold),
            bins=_bins(Alias(self.counts**self.power)) if self.negatives else np.zeros((0, 2), np.uint32),
            path=nodes, turns=turns.astype(np.int8), path_start=start.astype(np.int64), bags=bags, bag_start=bag_start,
            widest=int(np.diff(bag_start).max()) if self.bags else 1,
            longest=self.negatives + 1 if self.negatives else int(np.diff(start).max()),
        )  # fmt: skip

    @property
    def outputs(self) -> int:
        """Rows of C."""
        return len(self.counts) if self.negatives else max(len(self.counts) - 1, 1)

    def __call__(self, tokens: np.ndarray, seed: int, everything: bool = False) -> Blocks:
        """Blocks of a piece of text: ids of a WordVocabulary (n,). With ``everything`` no word is left out."""
        t, n = self._tables, len(tokens)
        around = 2 * self.window
        words_in, words_out = (1, around) if self.bags and not self.together else (around, 1)
        rows = np.empty(n * words_in * t["widest"], np.int32)
        outputs = np.empty(n * words_out * t["longest"], np.int32)
        labels = np.empty(len(outputs), np.int8)
        row_start, output_start = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
        keep = np.ones(len(self.counts)) if everything else t["keep"]
        N, pairs = _DRAW[np.dtype(np.float64)](
            tokens, keep, self.window, self.negatives, t["bins"], t["path"], t["path_start"],
            t["turns"], t["bags"], t["bag_start"], self.together, np.uint64(seed), np.empty(n, np.int32), rows,
            row_start, outputs, labels, output_start,
        )  # fmt: skip
        R, M = row_start[N], output_start[N]
        return Blocks(rows[:R], row_start[: N + 1], outputs[:M], labels[:M], output_start[: N + 1], pairs)
