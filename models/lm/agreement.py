"""Floor 7: how far does a language model remember the number of its subject?

The example of the lecture notes, with a distance that can be set: k nouns of either number stand between the subject
and its verb, 3 k + 4 words for k > 0, and only the subject tells which form is right.

    the cat , which already saw the dogs and the foxes , was full .
    the cats , which already saw the dogs and the fox , were full .

As a task for language models: Linzen, Dupoux and Goldberg (2016).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.models.lm.model import LanguageConfig, LanguageModel
from minigrad.models.recipe import Recipe
from minigrad.models.settings import Settings, real, whole
from minigrad.models.training import Trainer
from minigrad.models.vocabulary import WordVocabulary
from minigrad.nn.module import Seed, as_generator

NOUNS = ("bear", "bird", "boy", "cat", "cow", "dog", "duck", "frog", "girl", "goat", "hen", "horse", "king", "lion",
         "queen", "snake")  # fmt: skip
VERBS = ("ate", "fed", "found", "heard", "liked", "met", "saw", "sought")
STATES = ("asleep", "big", "early", "full", "happy", "late", "old", "tired")
WORDS = ("the", ",", "which", "already", "and", "was", "were", ".", *VERBS, *STATES, *NOUNS, *(f"{n}s" for n in NOUNS))
CELLS = ("rnn", "gru", "lstm")


def vocabulary() -> WordVocabulary:
    """The 58 symbols: words between spaces, ``<UNK>`` and ``<EOS>``."""
    return WordVocabulary(WORDS, "spaces")


def distance(nouns: int) -> int:
    """Words between subject and verb, where so many nouns intervene."""
    return 3 * nouns + 4 if nouns else 0


def sentences(nouns: int, count: int, seed: Seed = None) -> tuple[np.ndarray, np.ndarray]:
    """Sentences ids (T, B) from ``<EOS>`` to ``<EOS>``, and whether each subject is plural, (B,).

    The verb stands 4 symbols before the end; half of the subjects are plural.

    >>> ids, plural = sentences(2, 2, seed=3)
    >>> vocabulary().decode(ids[1:, 0]), bool(plural[0])
    ('the birds , which already fed the goats and the duck , were full .\\n', True)
    """
    rng, ids = as_generator(seed), vocabulary()._ids
    plural = rng.permutation(np.arange(count) % 2).astype(bool)  # (B,)

    def drawn(words: Sequence[str]) -> np.ndarray:
        return np.array([ids[w] for w in words])[rng.integers(0, len(words), count)]

    def noun(many: np.ndarray) -> np.ndarray:
        which = rng.integers(0, len(NOUNS), count)
        return ids[NOUNS[0]] + which + len(NOUNS) * many  # in WORDS the plurals follow in the same order

    def fixed(word: str) -> np.ndarray:
        return np.full(count, ids[word])

    rows = [fixed("<EOS>"), fixed("the"), noun(plural)]
    if nouns:
        rows += [fixed(","), fixed("which"), fixed("already"), drawn(VERBS)]
        for k in range(nouns):
            rows += [fixed("and")] * (k > 0) + [fixed("the"), noun(rng.integers(0, 2, count))]
        rows += [fixed(",")]
    rows += [np.where(plural, ids["were"], ids["was"]), drawn(STATES), fixed("."), fixed("<EOS>")]
    return np.stack(rows), plural


@dataclass(frozen=True)
class Agreement(Settings):
    """What is trained, the same for every cell: in each step sentences with 0 to ``nouns`` intervening nouns."""

    hidden: int = whole(48, 1, 1_000_000, "units of the one layer (H)")
    embedding: int = whole(24, 1, 1_000_000, "numbers that stand for a word (D)")
    nouns: int = whole(6, 0, 1000, "most nouns between subject and verb in training")
    tested: int = whole(48, 0, 1000, "most nouns between them in the test")
    sentences: int = whole(500, 2, 1_000_000, "sentences of each distance in the test")
    batch: int = whole(32, 1, 1_000_000, "sentences a step (B)")
    lr: float = real(5e-3, 0, np.inf, "highest learning rate of Adam")
    warmup: int = whole(50, 0, 10**9, "steps in which the learning rate rises")
    clip: float = real(1.0, 0, np.inf, "largest norm of the gradient")
    seeds: int = whole(5, 1, 1000, "trainings of each cell")
    seed: int = whole(1, 0, 2**62, "of the first of them; one seed repeats one run")
    minutes: float | None = real(None, 0, np.inf, "budget of each training: time")
    steps: int | None = whole(None, 1, 10**12, "budget of each training: updates  [default: 3000]")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.recipe()  # refuses two budgets

    @property
    def longest(self) -> int:
        """The longest distance in training, in words."""
        return distance(self.nouns)

    def recipe(self) -> Recipe:
        names = ("batch", "lr", "warmup", "clip", "seed", "minutes", "steps")
        values = {name: getattr(self, name) for name in names}
        return Recipe(**values | ({} if self.minutes is not None or self.steps is not None else {"steps": 3000}))

    def test(self) -> list[int]:
        """Numbers of nouns to test: all up to 4, then ever fewer of them."""
        some = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768}
        return sorted(k for k in some | {self.nouns, self.tested} if k <= self.tested)


class Sentences:
    """Batches for the Trainer, each a function of its step: sentences of one distance, another in each step."""

    per_epoch = 1

    def __init__(self, settings: Agreement):
        self.settings = settings

    def __call__(self, step: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        s, rng = self.settings, np.random.default_rng([self.settings.seed, 1, step])
        ids, _ = sentences(int(rng.integers(0, s.nouns + 1)), s.batch, rng)
        return (ids[:-1], ids[1:]), np.ones(s.batch, bool)


def train(
    cell: str, settings: Agreement, show: Callable[[float, str], Any] = lambda progress, text: None
) -> LanguageModel:
    """A language model with this cell, trained on such sentences; ``show(progress, text)`` is called now and then."""
    config = LanguageConfig(cell=cell, hidden=settings.hidden, embedding=settings.embedding)
    model = LanguageModel(config, vocabulary(), generator=settings.seed)
    recipe = settings.recipe()
    trainer = Trainer(model, Sentences(settings), model.initial_state(recipe.batch), recipe)
    losses = []
    for step in trainer:
        losses.append(step.loss)
        if step.number % 20 == 0:
            show(trainer.progress, f"{cell}  step {step.number:,}  loss {np.mean(losses[-100:]):.3f} nats a word")
    return model


def accuracy(model: LanguageModel, nouns: int, count: int, seed: Seed = None) -> float:
    """The share of sentences with log p(were) > log p(was) before the verb just where the subject is plural."""
    ids, plural = sentences(nouns, count, seed)
    was, were = (vocabulary()._ids[w] for w in ("was", "were"))
    with model.inference():
        h, _ = model.hidden(ids[:-4])
        found = model.logits(h[-1]).numpy()  # (B, V)
    return float(np.mean((found[:, were] > found[:, was]) == plural))


def accuracies(model: LanguageModel, settings: Agreement) -> Iterator[tuple[int, float]]:
    """Distance in words and accuracy, for every number of nouns of the test; the same sentences for every model."""
    for nouns in settings.test():
        yield (
            distance(nouns),
            accuracy(model, nouns, settings.sentences, np.random.default_rng([settings.seed, 2, nouns])),
        )
