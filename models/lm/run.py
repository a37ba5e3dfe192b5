"""Floor 7: a language model in training: its text, its file, what is printed, and how it is stopped and resumed."""

from __future__ import annotations

import math
import os
import shlex
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click
import numpy as np

from minigrad import nn
from minigrad.errors import UserError, describe
from minigrad.models.batches import Sentences, Windows
from minigrad.models.files import Training
from minigrad.models.lm.model import LanguageConfig, LanguageModel
from minigrad.models.place import kept, metrics_of, older, unchanged
from minigrad.models.progress import Bar, Metrics, clock, interruptible, seconds_until
from minigrad.models.recipe import BUDGETS, Recipe
from minigrad.models.settings import Settings, real, whole
from minigrad.models.text import Text, encoded
from minigrad.models.training import Diverged, Step, Trainer
from minigrad.models.vocabulary import Vocabulary, VocabularyConfig


@dataclass(frozen=True)
class Pace(Settings):
    """How often a run looks up from its work. Where the recipe lets validations decide, they are a part of it."""

    validations: int = whole(10, 0, 10**6, "on the way, evenly over the budget, each with a save; see --minutes")
    validation_chars: int = whole(131_072, 2, 10**12, "characters or words to validate with, at most")
    save_every: float = real(30.0, 0, math.inf, "seconds between two saves", closed=True)


VALIDATING = 1 / 5  # of the time of training, where that is the budget; a validation too many is left out


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


class LanguageRun:
    """A model, the trainer of it, and the file ``out`` that keeps both.

    On the way the held-out text is read as ``batch`` streams side by side, at the end as one.
    """

    def __init__(self, corpus: Corpus, model: LanguageModel, recipe: Recipe, out: Path, pace: Pace,
                 spelling: VocabularyConfig, training: Training | None = None):  # fmt: skip
        self.corpus, self.model, self.out, self.pace, self.spelling = corpus, model, out, pace, spelling
        self.recipe = recipe
        if recipe.judged and not pace.validations:
            got = "0 with --patience or --average nt-asgd, which go by them"
            raise UserError(describe("validations", got, "some"))
        self.unit = model.vocabulary.unit
        self.units = "chars" if self.unit == "character" else f"{self.unit}s"
        text, held_out = corpus.parts(self.unit)
        ids = encoded(model.vocabulary, text)
        self.held_out = encoded(model.vocabulary, held_out, pace.validation_chars)
        unknown = model.vocabulary.unknown
        self.unknown = None if unknown is None else int((self.held_out == unknown).sum())
        self.trained_on = len(ids)
        self.batches = self._batches(ids)
        if len(self.held_out) < 2:
            got = f"{len(self.held_out)} {self.unit}s to validate"
            raise UserError(describe("text", got, "2 at least", "use a longer text"))
        self.trainer = Trainer(model, self.batches, model.initial_state(recipe.batch), recipe)
        if training:
            self.trainer.restore(f"checkpoint {out}", *training)
        self.metrics = Metrics(metrics_of(out), self.trainer.number)
        self.saved: int | None = None  # the step that the file holds
        self.replaces = False  # the model of another training, which is kept beside
        self.hurried = recipe.minutes is not None and not recipe.judged
        self._validating = 0.0  # seconds
        facts = training[1] if training else {}
        validated = facts.get("validated")  # how many of the validations are behind it
        self.validated = validated if type(validated) is int else math.floor(self.trainer.progress * pace.validations)

    def _batches(self, ids: np.ndarray) -> Windows | Sentences:
        recipe, v = self.recipe, self.model.vocabulary
        if not self.model.config.sentences:
            varied = recipe.seed if recipe.jitter else None
            return Windows(ids, recipe.batch, recipe.window, recipe.reset, varied=varied, unit=self.unit)
        if recipe.jitter:
            raise UserError(describe("jitter", "windows that vary, and sentences", "one of the two"))
        return Sentences(ids, v.end, recipe.batch, recipe.seed, longest=recipe.window)

    @classmethod
    def new(cls, corpus: Corpus, config: LanguageConfig, recipe: Recipe, out: Path, pace: Pace,
            spelling: VocabularyConfig) -> LanguageRun:  # fmt: skip
        """From the beginning."""
        rng = np.random.default_rng(recipe.seed)
        model = LanguageModel(config, corpus.vocabulary(spelling), generator=rng)
        return cls(corpus, model, recipe, out, pace, spelling)

    @classmethod
    def resume(cls, path: Path, corpus: Corpus, explicit: dict[str, Any], out: Path | None, pace: Pace) -> LanguageRun:
        """From a checkpoint. ``explicit`` options must agree with it, but for a new budget."""
        where = f"checkpoint {path}"
        model, training = LanguageModel.load_for_training(path)
        if training is None:
            raise UserError(describe(where, "a model without the state of its training", "a file written by lm train"))
        facts = training[1]
        recipe = Recipe.from_json(where, facts.get("recipe"))
        spelling = VocabularyConfig.from_json(where, facts.get("spelling"))
        if budget := {name: explicit[name] for name in BUDGETS if name in explicit}:
            recipe = replace(recipe, **{**dict.fromkeys(BUDGETS), **budget})
        kept = {**model.config.to_json(), **recipe.to_json(), **spelling.to_json()}
        unchanged(explicit, kept, "a resumed run keeps its settings")
        _same_texts(facts.get("corpus"), corpus)
        if type(chars := facts.get("validation_chars")) is int and "validation_chars" not in explicit:
            pace = replace(pace, validation_chars=chars)
        if recipe.judged:
            pace = replace(Pace.from_json(where, facts.get("pace")), save_every=pace.save_every)
            kept = {name: value for name, value in pace.to_json().items() if name != "save_every"}
            unchanged(explicit, kept, "validations decide in this run")
        if recipe.minutes is None:  # a file of so many steps does not say how long they took
            training = training[0], {"seconds": seconds_until(metrics_of(path), facts.get("step")), **facts}
        if out and out.exists() and out.samefile(path):
            out = None
        run = cls(corpus, model, recipe, out or path, pace, spelling, training)
        if budget:
            run.trainer.new_budget()
            run.validated = math.floor(run.trainer.progress * pace.validations)
        run.saved = None if out else run.trainer.number
        return run

    # ---------------------------------------------------------------- the run

    def run(self, again: list[str]) -> int:
        """Train until the budget is used up; the exit code. ``again``: the arguments that a resumption needs."""
        self.check_output()
        self.introduce()
        bar = Bar("compiling kernels")
        try:
            caught = self.train(bar)
            stopped = bool(caught) and self.trainer.progress < 1
            if not stopped and self.trainer.finish():
                self.saved = None
            self.save()
        except Diverged as error:
            kept = f"{self.out} holds step {self.saved:,}" if self.saved is not None else "nothing was written"
            raise UserError(f"{error}; {kept}") from None
        finally:
            bar.close()
        if stopped:
            command = shlex.join(["minigrad", "lm", "train", "--resume", str(self.out), *again])
            click.echo(f"stopped after {self.trainer.number:,} steps, saved {self.out}", err=True)
            click.echo(f"go on with: {command}", err=True)
            return 128 + caught[0]
        self.conclude()
        return 0

    def train(self, bar: Bar) -> list[int]:
        """Steps, with a validation and a save now and then, until the end or a signal, whose number is given back."""
        trainer, symbols = self.trainer, self.trained_on / self.batches.per_epoch  # of a step, about
        began, done = trainer.seconds, trainer.progress
        saved_at = since = time.monotonic()
        losses: list[float] = []  # since the last validation
        steps = iter(trainer)
        first = list(islice(steps, 1))  # it compiles; Ctrl-C ends that at once: there is nothing to save
        with interruptible() as caught:
            for step in chain(first, steps):
                losses.append(step.loss)
                progress, now = trainer.progress, time.monotonic()
                speed = len(losses) * symbols / max(now - since, 1e-9)
                left = (trainer.seconds - began) / max(progress - done, 1e-9) * (1 - progress)
                bar.show(progress, f"loss {np.mean(losses[-50:]):.3f}  {speed:,.0f} {self.units}/s  {clock(left)} left")
                due = math.floor(progress * self.pace.validations) > self.validated
                due &= progress < 1 or trainer.recipe.judged  # the last is validated as one stream
                if due:
                    self.validated = math.floor(progress * self.pace.validations)
                if due and (self._validating <= VALIDATING * (trainer.seconds - began) or not self.hurried):
                    self.validate(bar, step, float(np.mean(losses)), speed)
                    losses, since = [], time.monotonic()
                if caught:
                    break
                if due or now - saved_at > self.pace.save_every:
                    self.save()
                    saved_at = now
        return caught

    def validate(self, bar: Bar, step: Step, loss: float, speed: float) -> None:
        streams, began = min(self.trainer.recipe.batch, len(self.held_out) - 1), time.monotonic()
        with self.trainer.averaged(), self.trainer.paused():
            found = self.model.evaluate(self.held_out, streams=streams, window=self.recipe.window)
        self._validating += time.monotonic() - began
        self.trainer.validated(found)
        epoch = step.number / self.batches.per_epoch
        seconds = self.trainer.seconds
        self.metrics.add(
            step=step.number, epoch=epoch, seconds=seconds, train_loss=loss, validation_loss=found,
            learning_rate=step.rate, gradient_norm=step.norm, **{f"{self.unit}s_per_second": speed},
        )  # fmt: skip
        bar.line(
            f"{clock(seconds):>6}  step {step.number:>6,}  epoch {epoch:6.2f}  train {loss:.3f}  "
            f"validation {found:.3f} nats a {self.unit}  {speed:,.0f} {self.units}/s"
        )

    # ---------------------------------------------------------------- its file

    def save(self) -> None:
        """The model with all that a resumption needs, unless the file holds this step already."""
        if self.saved == self.trainer.number:
            return
        arrays, facts = self.trainer.state()
        facts |= {"corpus": self.corpus.fingerprint(), "spelling": self.spelling.to_json()}
        facts |= {"validation_chars": self.pace.validation_chars}
        if self.recipe.judged:
            facts |= {"pace": self.pace.to_json(), "validated": self.validated}
        with kept(self.out) if self.replaces else nullcontext():
            self.model.save(self.out, (arrays, facts))
        self.saved, self.replaces = self.trainer.number, False

    def check_output(self) -> None:
        """Write the model beside its place and remove it: a full or read-only folder shows before the training."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        if self.out.exists() and self.out.stat().st_size:
            nn.read(self.out)  # nothing but a checkpoint is ever replaced
            if not os.access(self.out, os.W_OK):
                where = f"out {self.out}"
                raise UserError(describe(where, "a read-only file", "one to replace", "choose another --out"))
            if self.saved is None:
                self.replaces, self.metrics.older = True, older(self.metrics.path)
        probe = self.out.with_name(f".{self.out.name}.probe")
        arrays, facts = self.trainer.state()
        if self.trainer.number == 0:  # room for what Adam will keep of each parameter
            arrays |= {f"{i}.{name}": p for i in "mv" for name, p in self.model.state_dict().items()}
        self.model.save(probe, (arrays, facts))
        probe.unlink()

    # ---------------------------------------------------------------- first and last words

    def introduce(self) -> None:
        config, recipe = self.model.config, self.trainer.recipe
        count = sum(p.size for p in self.model.parameters())
        known, total = len(self.model.vocabulary), self.corpus.text.characters
        size = f"{total:,} characters, {known} different"
        if self.unit == "word":
            size = f"{self.trained_on:,} words to train on, {known:,} in the vocabulary"
        layers = "1 layer" if config.layers == 1 else f"{config.layers} layers"
        click.echo(
            f"{config.cell} of {layers} with {config.hidden} units, {count:,} parameters; "
            f"{self.corpus.text.name}: {size}; {recipe.budget()}",
            err=True,
        )
        if self.unknown is not None:
            n, share = len(self.held_out), self.unknown / len(self.held_out)
            click.echo(f"to validate: {n:,} {self.unit}s, {self.unknown:,} of them unknown ({share:.1%})", err=True)
        if self.replaces:
            click.echo(f"the model that is in {self.out} will be kept as {older(self.out)}", err=True)
        if self.trainer.number:
            step = f"step {self.trainer.number:,}"
            more = "a larger --steps, --epochs or --minutes would go on"
            done = self.trainer.progress == 1
            click.echo(f"finished before, at {step}; {more}" if done else f"going on after {step}", err=True)

    def conclude(self) -> None:
        step, seconds = self.trainer.number, self.trainer.seconds
        nats = self.model.evaluate(self.held_out)
        epoch = step / self.batches.per_epoch
        unknown = {} if self.unknown is None else {"unknown": self.unknown}
        how = "sentence by sentence" if self.model.config.sentences else "as one stream"
        self.metrics.add(step=step, epoch=epoch, seconds=seconds, validation_loss=nats, **unknown, final=True)
        click.echo(
            f"{clock(seconds):>6}  step {step:>6,}  epoch {epoch:6.2f}  validation {how} {nats:.4f} nats "
            f"a {self.unit}, {nats / math.log(2):.3f} bits, perplexity {math.exp(nats):.2f}",
            err=True,
        )
        click.echo(f"saved {self.out}", err=True)


def _same_texts(known: Any, corpus: Corpus) -> None:
    """That a checkpoint was trained on these."""
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
