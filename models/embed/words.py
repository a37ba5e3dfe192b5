"""Floor 7: a text as the words that embeddings learn from, and the training of word2vec and fastText on it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.models.embed.blocks import FIRST, Drawing
from minigrad.models.embed.fused import step
from minigrad.models.embed.hogwild import Hogwild
from minigrad.models.embed.objectives import CBOW, SkipGram, Softmax
from minigrad.models.embed.subwords import NGrams, Subwords
from minigrad.models.embed.vectors import WordVectors
from minigrad.models.text import Text, encoded
from minigrad.models.vocabulary import WordVocabulary

PIECE = 8192  # tokens of a task; no window reaches over its ends
BLOCK = 1 << 22  # tokens that are looked at together
SLOWEST = 1e-4  # the share of the first rate that is left at the end


class Words(NamedTuple):
    """Tokens of a text, on disk (n,): 0 unknown, 1 the end of a sentence, 2 + w word w; how often each word is among
    those to train on (V,); and tokens to validate with."""

    vocabulary: WordVocabulary
    tokens: np.ndarray
    counts: np.ndarray
    held_out: np.ndarray

    @property
    def words(self) -> tuple[str, ...]:
        """Those that get vectors (V,)."""
        return self.vocabulary.words[FIRST:]


def words_of(text: Text, minimum: int = 5, size: int | None = None, tokens: str = "words", lower: bool = False,
             held_out: float = 0.0) -> Words:  # fmt: skip
    """Read a text: words that occur ``minimum`` times at least, the ``size`` most frequent ones; the last share
    ``held_out`` of the text is not trained on.

    >>> words_of(Text("two", "to be or not to be\\n"), minimum=2).words
    ('be', 'to')
    """
    vocabulary = WordVocabulary.build(text.blocks(), FIRST + (size or 2**31), minimum, tokens, lower)
    ids = encoded(vocabulary, text)
    cut = len(ids) - int(held_out * len(ids))
    counts = np.zeros(len(vocabulary), np.int64)
    for first in range(0, cut, BLOCK):
        counts += np.bincount(ids[first : min(cut, first + BLOCK)], minlength=len(vocabulary))
    if (counts[FIRST:] > 0).sum() < 2:
        got = f"no two words, only {vocabulary.words[FIRST + int(counts[FIRST:].argmax())]!r}, in what is trained on"
        do = "use a longer text, or a smaller --min-count or --held-out"
        raise UserError(describe(f"text {text.name}", got, "two at least", do))
    return Words(vocabulary, ids[:cut], counts[FIRST:], ids[cut:])


class WordTraining(Hogwild):
    """Skip-gram and CBOW, with negative sampling, hierarchical softmax or the full softmax, with and without subwords.

    words:      what to learn from
    objective:  SkipGram, CBOW or Softmax
    dim:        D
    window:     words on either side at most
    negatives:  K; 0: hierarchical softmax
    lr:         the rate at first; it falls to 0 in proportion to what is done (but not below lr/10000)
    sample:     threshold above which frequent words are left out by chance; 0 keeps all
    subwords:   the n-grams; a word is then the mean of its rows

    >>> text = Text("rhyme", "a cat sat on a mat . a dog sat on a log . " * 20)
    >>> training = WordTraining(words_of(text, minimum=1), dim=8, epochs=3, sample=0.0, lr=0.1)
    >>> reports = list(training)
    >>> training.losses[2] < training.losses[0], training.vectors()["cat"].shape
    (True, (8,))
    """

    def __init__(self, words: Words, objective: type[SkipGram] = SkipGram, dim: int = 100, epochs: int = 5, *,
                 window: int = 5, negatives: int = 5, lr: float = 0.025, sample: float = 1e-3,
                 subwords: NGrams | None = None, threads: int = 1, seed: int = 1, dtype: Any = np.float32):  # fmt: skip
        super().__init__(epochs, threads)
        together = objective is CBOW
        self.objective = objective = CBOW if subwords else objective  # a word is several rows
        self.words, self.lr, self.seed, self.subwords = words, lr, seed, subwords
        V, buckets = len(words.counts), subwords.buckets if subwords else 0
        self.drawing = Drawing(
            np.maximum(words.counts, 1), window, negatives, together=together,
            threshold=sample, bags=_bags(words.words, subwords) if subwords else None,
        )  # fmt: skip
        model = objective(V + buckets, dim, V if objective is Softmax else self.drawing.outputs,
                          generator=seed, dtype=dtype)  # fmt: skip
        self.arrays = {"W": model.W.numpy().copy(), "C": model.C.numpy().copy()}
        self.total = int(words.counts.sum())

    def tasks(self) -> list[tuple[int, int, float]]:
        """The pieces of the text in an order drawn anew in each epoch: the first token, a seed, and the share of the
        epoch that lies before it. (In the order of the text, the end of it would count most.)"""
        pieces = -(-len(self.words.tokens) // PIECE)
        rng = np.random.default_rng([self.seed, len(self.losses)])
        order, seeds = rng.permutation(pieces), rng.integers(2**63, size=pieces)
        return [(k * PIECE, s, n / pieces) for n, (k, s) in enumerate(zip(order.tolist(), seeds.tolist()))]

    def run(self, task: tuple[int, int, float]) -> tuple[int, float, int]:
        first, seed, before = task
        tokens = self.words.tokens[first : first + PIECE]
        rate = self.lr * max(1 - (len(self.losses) + before) / self.epochs, SLOWEST)
        blocks = self.drawing(tokens, seed)
        cost = step(self.objective, blocks, self.arrays["W"], self.arrays["C"], rate)
        return int(np.count_nonzero(tokens >= FIRST)), cost, blocks.pairs

    def held_out_loss(self) -> float | None:
        """The mean loss of the pairs of the held-out text, of which no word is left out; None if there is none."""
        cost, pairs = 0.0, 0
        for first in range(0, len(self.words.held_out), PIECE):
            blocks = self.drawing(self.words.held_out[first : first + PIECE], first, everything=True)
            cost += step(self.objective, blocks, self.arrays["W"], self.arrays["C"], 0.0)
            pairs += blocks.pairs
        return cost / pairs if pairs else None

    def vectors(self) -> WordVectors:
        """Of each word, with its count; with subwords also of words that were never seen."""
        W, names, ngrams, subwords = (
            self.arrays["W"].astype(np.float32, copy=False),
            self.words.words,
            self.subwords,
            None,
        )
        if ngrams:
            subwords = Subwords(W, names, ngrams.low, ngrams.high, ngrams.buckets)
            W = subwords.vectors(names)
        return WordVectors(names, W.astype(np.float32, copy=False), self.words.counts, subwords)


def _bags(words: tuple[str, ...], subwords: NGrams) -> tuple[np.ndarray, np.ndarray]:
    """Of each word its own row and those of its n-grams, and where they begin (V + 1,)."""
    offsets, ids = subwords.table(words)
    V = len(words)
    rows = np.insert(ids + V, offsets[:-1], np.arange(V)).astype(np.int32)
    return rows, offsets + np.arange(V + 1)
