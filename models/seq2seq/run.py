"""Floor 7: a sequence-to-sequence model in training: its pairs, how they are read, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.models.progress import perplexity
from minigrad.models.recipe import Recipe
from minigrad.models.run import Pace, Run
from minigrad.models.seq2seq.beam import Decoding
from minigrad.models.seq2seq.config import Seq2SeqConfig
from minigrad.models.seq2seq.decode import translate
from minigrad.models.seq2seq.metrics import bleu, exact
from minigrad.models.seq2seq.model import Seq2Seq
from minigrad.models.seq2seq.pairs import Corpus, PairConfig, Pairs, Split
from minigrad.models.seq2seq.tasks import dates
from minigrad.models.settings import whole
from minigrad.models.vocabulary import LineVocabularyConfig

TRANSLATED, SHOWN = 1000, 3  # held-out pairs at the end
DATES = {"training": (200_000, 1), "validation": (1000, 2), "test": (5000, 3)}  # how many, and the seed


@dataclass(frozen=True)
class PairPace(Pace):
    """The pace of a run over pairs."""

    validation_pairs: int = whole(1000, 1, 10**9, "held-out pairs to validate with, at most, drawn once")


@dataclass(frozen=True)
class Reading(LineVocabularyConfig, PairConfig):
    """Which pairs are read, and as what symbols."""

    max_symbols: int = whole(1000, 1, 10**9, "symbols of a side at most; longer pairs are left out")


def of_files(path: str, other: str | None = None) -> Callable[[Reading], Split]:
    """The pairs of a file, or of two parallel ones, as soon as it is known how they are read."""
    return lambda reading: reading.split(reading.read(path, other))


def generated(part: str) -> Corpus:
    """The dates of a part."""
    pairs = dates(*DATES[part], "train" if part == "training" else "held-out")
    return Corpus("dates", *([*side] for side in zip(*pairs)))


def of_dates(reading: Reading | None = None) -> Split:
    """Generated dates: training sees neither the formats nor the days of the other parts."""
    return Split(*map(generated, Split._fields))


class Seq2SeqRun(Run):
    """A run over pairs. At the end some that are held out are translated, each symbol the likeliest."""

    command = ("seq2seq", "train")
    kinds = (Seq2Seq, Recipe, PairPace, Reading)
    held = "validation_pairs"

    @classmethod
    def new(cls, given: Callable[[Reading], Split], config: Seq2SeqConfig, recipe: Recipe, out: Path, pace: PairPace,
            reading: Reading) -> Seq2SeqRun:  # fmt: skip
        """From the beginning."""
        corpus = cls.opened(given, reading)
        source, target = (reading.build(side) for side in (corpus.training.sources, corpus.training.targets))
        model = Seq2Seq(config, source, target, generator=np.random.default_rng(recipe.seed))
        return cls(corpus, model, recipe, out, pace, reading)

    @classmethod
    def opened(cls, given: Callable[[Reading], Split], reading: Reading) -> Parts:
        return Parts(*given(reading))

    def read(self) -> tuple[Pairs, None]:
        recipe, model, most = self.recipe, self.model, self.spelling.max_symbols
        self.unit, self.units = model.target.unit, "chars" if model.target.unit == "character" else "symbols"
        training, validation = self.corpus.training, self.corpus.validation
        chosen = np.random.default_rng(0).permutation(len(validation))[: self.pace.validation_pairs]
        held_out = validation.take(chosen.tolist())
        sides = model.source, model.target, recipe.batch, recipe.seed
        self.to_validate = Pairs.of(held_out, *sides, longest=most)
        self.held_out = held_out.take(self.to_validate.rows.tolist())
        batches = Pairs.of(training, *sides, longest=most)
        self.left_out = {**training.left_out}
        if long := batches.left_out + self.to_validate.left_out:
            self.left_out[f"longer than {most:,} symbols"] = long
        self.symbols = batches.symbols / batches.per_epoch
        return batches, None

    def validation(self) -> float:
        return self.model.evaluate(self.to_validate)

    def introduction(self) -> list[str]:
        c, source, target = self.model.config, self.model.source, self.model.target
        count = sum(p.size for p in self.model.parameters())
        layers = "1 layer" if c.layers == 1 else f"{c.layers} layers"
        attention = "no attention" if c.attention == "none" else f"{c.attention} attention"
        said = [
            f"{c.cell} of {layers} with {c.hidden} units, {attention}, {count:,} parameters; "
            f"{self.corpus.training.name}: {len(self.batches):,} pairs to train on, {self.batches.symbols:,} "
            f"{target.unit}s to write; {len(source):,} different {source.unit}s in the source, {len(target):,} in the "
            f"target; {self.recipe.budget()}"
        ]
        if self.left_out:
            said.append(f"left out: {', '.join(f'{n:,} {why}' for why, n in self.left_out.items())}")
        shares = [_unknown(*side) for side in ((source, self.held_out.sources), (target, self.held_out.targets))]
        n, of = len(self.held_out), len(self.corpus.validation)
        beside = "" if n == of else f" of {of:,}"
        said.append(
            f"to validate: {n:,}{beside} held-out pairs; {shares[0]:.1%} of the {source.unit}s of their sources and "
            f"{shares[1]:.1%} of those of their targets unknown"
        )
        return said

    def conclusion(self) -> tuple[dict[str, Any], str]:
        nats = self.validation()
        sources, references = self.held_out.sources[:TRANSLATED], self.held_out.targets[:TRANSLATED]
        outputs = [found[0].text for found in translate(self.model, sources, Decoding(beam=1))]
        scores = [metric(outputs, references) for metric in (bleu, exact)]
        lines = [
            f"validation {nats:.4f} nats a {self.unit}, perplexity {perplexity(nats):.2f}",
            f"greedy translations of {len(outputs):,} held-out pairs:",
            *(score.text for score in scores),
            *samples(sources[:SHOWN], references, outputs),
        ]
        return {"validation_loss": nats, **{s.name.lower(): s.value for s in scores}}, "\n".join(lines)

    @classmethod
    def check_same(cls, known: Any, corpus: Parts, where: str = "resume") -> None:
        found, old = corpus.fingerprint(), known if isinstance(known, dict) else {}
        for part in found:
            if old.get(part) != found[part]:
                got, expected = (_name(of.get(part)) for of in (found, old))
                got += ", but not the same" * (got == expected)
                wanted = f"the pairs that training began with, for {part} {expected}"
                raise UserError(describe(where, got, wanted, "pass the same files"))


class Parts(Split):
    """A split that a checkpoint can tell from another."""

    __slots__ = ()

    def fingerprint(self) -> dict[str, Any]:
        return {"training": self.training.fingerprint(), "validation": self.validation.fingerprint()}


def _name(fingerprint: Any) -> str:
    known = fingerprint if isinstance(fingerprint, dict) else {}
    return f"{known.get('name')!r} with {known.get('pairs')} pairs"


def samples(sources: Sequence[str], references: Sequence[str], outputs: Sequence[str]) -> list[str]:
    """Source, reference and output, one below the other."""
    names = ("source", "reference", "output")
    return [f"{name:>9}  {text}" for trio in zip(sources, references, outputs) for name, text in zip(names, trio)]


def _unknown(v: Any, lines: Sequence[str]) -> float:
    """The share of symbols that are unknown."""
    ids = np.concatenate([v.encode(line) for line in lines])
    return float((ids == v.unknown).mean()) if len(ids) else 0.0
