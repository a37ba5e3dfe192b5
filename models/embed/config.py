"""Floor 7: what an embedding is trained with: one line for each setting, one for each objective."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from minigrad.errors import UserError, describe
from minigrad.kernels.cpu.parallel import workers
from minigrad.models.embed.cooccurrence import count
from minigrad.models.embed.glove import GloVeTraining
from minigrad.models.embed.neural import NeuralTraining
from minigrad.models.embed.objectives import CBOW, SkipGram, Softmax
from minigrad.models.embed.subwords import NGrams
from minigrad.models.embed.words import Words, WordTraining
from minigrad.models.settings import Settings, choice, flag, real, whole
from minigrad.models.vocabulary import OF_TEXTS


class Objective(NamedTuple):
    """How it begins, which settings are its own, and what it takes and calls its loss unless told otherwise."""

    begin: Callable[[Words, EmbedConfig], Any]
    own: tuple[str, ...]
    lr: float
    window: int = 5
    epochs: int = 5
    loss: str = "nats a pair of words"


def _word2vec(
    objective: type[SkipGram], *, path: bool = False, subwords: bool = False
) -> Callable[[Words, EmbedConfig], Any]:
    def begin(words: Words, c: EmbedConfig) -> WordTraining:
        ngrams = NGrams(c.low, c.high, c.buckets) if subwords else None
        return WordTraining(
            words, objective, c.dim, c.epochs, window=c.window, negatives=0 if path else c.negative, lr=c.lr,
            sample=c.sample, subwords=ngrams, threads=c.threads, seed=c.seed,
        )  # fmt: skip

    return begin


def _glove(words: Words, c: EmbedConfig) -> GloVeTraining:
    counts = count(words.tokens, len(words.counts), c.window, c.memory, first=2)
    return GloVeTraining(counts, c.dim, c.epochs, threads=c.threads, lr=c.lr, x_max=c.x_max, alpha=c.alpha, seed=c.seed)


def _neural(words: Words, c: EmbedConfig) -> NeuralTraining:
    symbols = len(words.vocabulary)
    softmax = "sampled" if symbols > 4 * SAMPLES else "exact"
    return NeuralTraining(words.tokens, symbols, c.epochs, lr=c.lr, seed=c.seed, dim=c.dim, context=c.window,
                          hidden=c.hidden, softmax=softmax, samples=SAMPLES, held_out=words.held_out)  # fmt: skip


SAMPLES = 1024  # words drawn for a step of the neural model, where there are many
SHARED = ("threads", "held_out")
SUBWORDS = ("low", "high", "buckets")
OBJECTIVES = {
    "sgns": Objective(_word2vec(SkipGram), ("negative", "sample", *SHARED), 0.025),
    "cbow": Objective(_word2vec(CBOW), ("negative", "sample", *SHARED), 0.05),
    "hs": Objective(_word2vec(SkipGram, path=True), ("sample", *SHARED), 0.025),
    "cbow-hs": Objective(_word2vec(CBOW, path=True), ("sample", *SHARED), 0.05),
    "softmax": Objective(_word2vec(Softmax), ("sample", *SHARED), 0.025),
    "fasttext": Objective(_word2vec(SkipGram, subwords=True), ("negative", "sample", *SHARED, *SUBWORDS), 0.05),
    "fasttext-cbow": Objective(_word2vec(CBOW, subwords=True), ("negative", "sample", *SHARED, *SUBWORDS), 0.05),
    "glove": Objective(_glove, ("x_max", "alpha", "memory", "threads"), 0.05, 10, 25, "weighted square a pair"),
    "neural": Objective(_neural, ("hidden", "held_out"), 1e-3, 4, loss="nats a word"),
}  # fmt: skip


@dataclass(frozen=True)
class EmbedConfig(Settings):
    """What vectors are learnt from a text with.

    >>> config = EmbedConfig(objective="glove")
    >>> config.window, config.epochs, config.lr
    (10, 25, 0.05)
    """

    objective: str = choice("sgns", tuple(OBJECTIVES), "skip-gram or CBOW with drawn words, with a "
                            "Huffman tree (hs), with all words (softmax), with subwords (fasttext); GloVe; "
                            "or the neural model of the next word (neural)")  # fmt: skip
    dim: int = whole(100, 1, 100_000, "numbers of a vector (D)")
    window: int | None = whole(None, 1, 1000, "words on either side  [default: 5; glove 10; neural 4, before the word]")
    negative: int = whole(5, 1, 1000, "words drawn for each that is predicted")
    epochs: int | None = whole(None, 1, 10**6, "passes over the text  [default: 5; glove 25]")
    lr: float | None = real(
        None, 0, math.inf, "learning rate at first  [default: 0.025, or 0.05, or 0.001, by objective]"
    )
    sample: float = real(1e-3, 0, 1, "share of the text above which a word is left out now and then; 0: none",
                         closed=True)  # fmt: skip
    threads: int | None = whole(None, 1, 1024, "threads; with 1 the vectors repeat to the bit  [default: all]")
    min_count: int = whole(5, 1, 10**9, "how often a word must occur to get a vector")
    vocab_size: int | None = whole(None, 2, 2**31 - 3, "words that get vectors, at most")
    tokens: str = choice("words", OF_TEXTS, "words of prose, or what stands between spaces, a sentence a line")
    lower: bool = flag("read capital letters as small ones")
    held_out: float | None = real(None, 0, 0.5, "the last share of the text, to validate with  [default: 0.01]",
                                  closed=True)  # fmt: skip
    low: int = whole(3, 1, 100, "characters of the shortest subword")
    high: int = whole(6, 1, 100, "characters of the longest subword")
    buckets: int = whole(200_000, 1, 2**30, "rows that all subwords share")
    hidden: int = whole(200, 1, 100_000, "neural: units between the words and the next one (H)")
    x_max: float = real(100.0, 0, math.inf, "glove: co-occurrences that have full weight")
    alpha: float = real(0.75, 0, 10, "glove: power of the weight below that")
    memory: float = real(512.0, 0, 1e6, "glove: megabytes in which co-occurrences are counted")
    seed: int = whole(1, 0, 2**63 - 1, "one seed repeats one run")

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen = OBJECTIVES[self.objective]
        own = {"window": chosen.window, "epochs": chosen.epochs, "lr": chosen.lr, "threads": workers(),
               "held_out": 0.01 if "held_out" in chosen.own else 0.0}  # fmt: skip
        for name, value in own.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.low > self.high:
            raise UserError(describe("low", str(self.low), f"at most --high, {self.high}"))

    def refuse_others(self, given: Iterable[str]) -> None:
        """UserError where one of the settings that a person gave is only of other objectives."""
        for name in given:
            owners = [o for o, objective in OBJECTIVES.items() if name in objective.own]
            if owners and self.objective not in owners:
                got = f"--{name.replace('_', '-')} with --objective {self.objective}"
                raise UserError(describe("embed train", got, f"it with {', '.join(owners)} alone", "leave it out"))
