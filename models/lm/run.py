"""Floor 7: a language model in training: its text, how it is read, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.models.batches import Sentences, Windows
from minigrad.models.lm.model import LanguageConfig, LanguageModel
from minigrad.models.progress import perplexity
from minigrad.models.recipe import WindowRecipe
from minigrad.models.run import Pace, Run
from minigrad.models.settings import whole
from minigrad.models.text import Text, encoded
from minigrad.models.vocabulary import Vocabulary, VocabularyConfig


@dataclass(frozen=True)
class TextPace(Pace):
    """The pace of a run over a text."""

    validation_chars: int = whole(131_072, 2, 10**12, "characters or words to validate with, at most")


@dataclass(frozen=True)
class Corpus:
    """What is read: a text, and another to validate with; without one, the last tenth is held out."""

    text: Text
    validation: Text | None = None

    def parts(self, unit: str) -> tuple[Text, Text]:
        """To train on, and to validate with."""
        return (self.text, self.validation) if self.validation else self.text.parts(unit)

    def vocabulary(self, config: VocabularyConfig) -> Vocabulary:
        """Of what is trained on: of other symbols nothing could be learnt. Of the characters of one text all, so that
        where it is cut does not matter."""
        train, held_out = self.parts(config.unit)
        whole = config.unit == "character" and self.validation is None
        return config.build(chain(train.blocks(), held_out.blocks() if whole else ()))

    def fingerprint(self) -> dict[str, Any]:
        """What tells this corpus from another, for a checkpoint."""
        return {"text": self.text.fingerprint(), "validation": self.validation and self.validation.fingerprint()}


class LanguageRun(Run):
    """A run over a text. On the way what is held out is read as ``batch`` streams side by side, at the end as one."""

    command = ("lm", "train")
    kinds = (LanguageModel, WindowRecipe, TextPace, VocabularyConfig)
    held = "validation_chars"

    @classmethod
    def new(cls, corpus: Corpus, config: LanguageConfig, recipe: WindowRecipe, out: Path, pace: TextPace,
            spelling: VocabularyConfig) -> LanguageRun:  # fmt: skip
        """From the beginning."""
        rng = np.random.default_rng(recipe.seed)
        model = LanguageModel(config, corpus.vocabulary(spelling), generator=rng)
        return cls(corpus, model, recipe, out, pace, spelling)

    def read(self) -> tuple[Windows | Sentences, Any]:
        self.unit = self.model.vocabulary.unit
        self.units = "chars" if self.unit == "character" else f"{self.unit}s"
        text, held_out = self.corpus.parts(self.unit)
        ids = encoded(self.model.vocabulary, text)
        self.held_out = encoded(self.model.vocabulary, held_out, self.pace.validation_chars)
        unknown = self.model.vocabulary.unknown
        self.unknown = None if unknown is None else int((self.held_out == unknown).sum())
        self.trained_on = len(ids)
        batches = self._batches(ids)
        self.symbols = self.trained_on / batches.per_epoch
        if len(self.held_out) < 2:
            got = f"{len(self.held_out)} {self.unit}s to validate"
            raise UserError(describe("text", got, "2 at least", "use a longer text"))
        return batches, self.model.initial_state(self.recipe.batch)

    def _batches(self, ids: np.ndarray) -> Windows | Sentences:
        recipe, v = self.recipe, self.model.vocabulary
        if not self.model.config.sentences:
            varied = recipe.seed if recipe.jitter else None
            return Windows(ids, recipe.batch, recipe.window, recipe.reset, varied=varied, unit=self.unit)
        if recipe.jitter:
            raise UserError(describe("jitter", "windows that vary, and sentences", "one of the two"))
        return Sentences(ids, v.end, recipe.batch, recipe.seed, longest=recipe.window)

    def validation(self) -> float:
        streams = min(self.recipe.batch, len(self.held_out) - 1)
        return self.model.evaluate(self.held_out, streams=streams, window=self.recipe.window)

    def introduction(self) -> list[str]:
        config = self.model.config
        count = sum(p.size for p in self.model.parameters())
        known, total = len(self.model.vocabulary), self.corpus.text.characters
        size = f"{total:,} characters, {known} different"
        if self.unit == "word":
            size = f"{self.trained_on:,} words to train on, {known:,} in the vocabulary"
        layers = "1 layer" if config.layers == 1 else f"{config.layers} layers"
        said = [
            f"{config.cell} of {layers} with {config.hidden} units, {count:,} parameters; "
            f"{self.corpus.text.name}: {size}; {self.recipe.budget()}"
        ]
        if self.unknown is not None:
            n, share = len(self.held_out), self.unknown / len(self.held_out)
            said.append(f"to validate: {n:,} {self.unit}s, {self.unknown:,} of them unknown ({share:.1%})")
        return said

    def conclusion(self) -> tuple[dict[str, Any], str]:
        nats = self.model.evaluate(self.held_out)
        unknown = {} if self.unknown is None else {"unknown": self.unknown}
        how = "sentence by sentence" if self.model.config.sentences else "as one stream"
        line = (
            f"validation {how} {nats:.4f} nats a {self.unit}, {nats / math.log(2):.3f} bits, "
            f"perplexity {perplexity(nats):.2f}"
        )
        return {"validation_loss": nats, **unknown}, line

    @classmethod
    def check_same(cls, known: Any, corpus: Corpus) -> None:
        known = known if isinstance(known, dict) else {}
        for option, text in (("text", corpus.text), ("validation", corpus.validation)):
            old, found = known.get(option), text and text.fingerprint()
            if old != found:
                got, name = (_name(fingerprint) for fingerprint in (found, old))
                do = f"pass it with --{option}" if old else f"leave --{option} out"
                raise UserError(describe("resume", f"--{option} {got}", f"what training began with, {name}", do))


def _name(fingerprint: Any) -> str:
    known = fingerprint if isinstance(fingerprint, dict) else {}
    return f"{known.get('name')!r} of {known.get('characters')} characters" if known else "none"
