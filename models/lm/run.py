"""Floor 7: a language model in training: its text, its file, what is printed, and how it is stopped and resumed."""

from __future__ import annotations

import math
import os
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from minigrad import nn
from minigrad.errors import UserError, describe
from minigrad.models.batches import Windows
from minigrad.models.lm.model import LanguageConfig, LanguageModel, Training
from minigrad.models.progress import Bar, Metrics, clock, interruptible
from minigrad.models.settings import Settings, real, whole
from minigrad.models.text import Text
from minigrad.models.training import BUDGETS, Diverged, Recipe, Step, Trainer
from minigrad.models.vocabulary import CharVocabulary


@dataclass(frozen=True)
class Pace(Settings):
    """How often a run looks up from its work, which changes nothing in its result."""

    validations: int = whole(10, 0, 10**6, "validations on the way, evenly over the budget, each with a save")
    validation_chars: int = whole(131_072, 2, 10**12, "characters of the held-out tenth that are read, at most")
    save_every: float = real(30.0, 0, math.inf, "seconds between two saves", closed=True)


class LanguageRun:
    """A model, the trainer of it, and the file ``out`` that keeps both.

    On the way the last tenth of the text is validated as ``batch`` streams side by side, at the end as one.
    """

    def __init__(self, text: Text, model: LanguageModel, recipe: Recipe, out: Path, pace: Pace,
                 training: Training | None = None):  # fmt: skip
        self.text, self.model, self.out, self.pace = text, model, out, pace
        ids, held_out = (model.vocabulary.encode(part) for part in text.parts())
        self.held_out = held_out[: pace.validation_chars]
        self.batches = Windows(ids, recipe.batch, recipe.window, recipe.reset)
        if len(self.held_out) < 2:
            got = f"{len(self.held_out)} characters to validate"
            raise UserError(describe("text", got, "2 at least", "use a longer text"))
        self.trainer = Trainer(model, self.batches, model.initial_state(recipe.batch), recipe)
        if training:
            self.trainer.restore(f"checkpoint {out}", *training)
        self.corpus = text.fingerprint()
        self.metrics = Metrics(out.with_suffix(".metrics.jsonl"), self.trainer.number)
        self.saved: int | None = None  # the step that the file holds

    @classmethod
    def new(cls, text: Text, config: LanguageConfig, recipe: Recipe, out: Path, pace: Pace) -> LanguageRun:
        """From the beginning."""
        rng = np.random.default_rng(recipe.seed)
        model = LanguageModel(config, CharVocabulary.of(text.content), generator=rng)
        return cls(text, model, recipe, out, pace)

    @classmethod
    def resume(cls, path: Path, text: Text, explicit: dict[str, Any], out: Path | None, pace: Pace) -> LanguageRun:
        """From a checkpoint. ``explicit`` options must agree with it, but for a new budget."""
        where = f"checkpoint {path}"
        model, training = LanguageModel.load_for_training(path)
        if training is None:
            raise UserError(describe(where, "a model without the state of its training", "a file written by lm train"))
        facts = training[1]
        recipe = Recipe.from_json(where, facts.get("recipe"))
        if budget := {name: explicit[name] for name in BUDGETS if name in explicit}:
            recipe = replace(recipe, **{**dict.fromkeys(BUDGETS), **budget})
        for name, value in {**model.config.to_json(), **recipe.to_json()}.items():
            if explicit.get(name, value) != value:
                got = f"--{name} {explicit[name]}"
                raise UserError(describe("resume", got, str(value), "a resumed run keeps its settings"))
        _same_text(facts.get("corpus"), text)
        run = cls(text, model, recipe, out or path, pace, training)
        run.saved = None if out else run.trainer.number
        return run

    # ---------------------------------------------------------------- the run

    def run(self, again: list[str]) -> int:
        """Train until the budget is used up; the exit code. ``again``: the arguments that a resumption needs."""
        self.check_output()
        self.introduce()
        bar = Bar("compiling kernels")
        try:
            with interruptible() as caught:
                self.train(bar, caught)
            self.save()
        except Diverged as error:
            kept = f"{self.out} holds step {self.saved:,}" if self.saved is not None else "nothing was written"
            raise UserError(f"{error}; {kept}") from None
        finally:
            bar.close()
        if caught:
            command = shlex.join(["minigrad", "lm", "train", "--resume", str(self.out), *again])
            click.echo(f"stopped after {self.trainer.number:,} steps, saved {self.out}", err=True)
            click.echo(f"go on with: {command}", err=True)
            return 128 + caught[0]
        self.conclude()
        return 0

    def train(self, bar: Bar, caught: list[int]) -> None:
        """Steps, with a validation and a save now and then, until the end or a signal."""
        trainer, chars = self.trainer, self.trainer.recipe.batch * self.trainer.recipe.window
        began, done = trainer.seconds, trainer.progress
        validated = math.floor(done * self.pace.validations)
        saved_at = time.monotonic()
        losses: list[float] = []  # since the last validation
        since = time.monotonic()
        for step in trainer:
            losses.append(step.loss)
            progress, now = trainer.progress, time.monotonic()
            speed = len(losses) * chars / max(now - since, 1e-9)
            left = (trainer.seconds - began) / max(progress - done, 1e-9) * (1 - progress)
            bar.show(progress, f"loss {np.mean(losses[-50:]):.3f}  {speed:,.0f} chars/s  {clock(left)} left")
            if caught:
                return
            due = math.floor(progress * self.pace.validations) > validated and progress < 1
            if due or now - saved_at > self.pace.save_every:
                self.save()
                saved_at = now
            if due:
                validated = math.floor(progress * self.pace.validations)
                self.validate(bar, step, float(np.mean(losses)), speed)
                losses, since = [], time.monotonic()

    def validate(self, bar: Bar, step: Step, loss: float, speed: float) -> None:
        streams = min(self.trainer.recipe.batch, len(self.held_out) - 1)
        found = self.model.evaluate(self.held_out, streams=streams, window=self.trainer.recipe.window)
        epoch = step.number / self.batches.per_epoch
        seconds = self.trainer.seconds
        self.metrics.add(step=step.number, epoch=epoch, seconds=seconds, train_loss=loss, validation_loss=found,
                         learning_rate=step.rate, gradient_norm=step.norm, characters_per_second=speed)  # fmt: skip
        bar.line(
            f"{clock(seconds):>6}  step {step.number:>6,}  epoch {epoch:6.2f}  train {loss:.3f}  "
            f"validation {found:.3f} nats a character  {speed:,.0f} chars/s"
        )

    # ---------------------------------------------------------------- its file

    def save(self) -> None:
        """The model with all that a resumption needs, unless the file holds this step already."""
        if self.saved == self.trainer.number:
            return
        arrays, facts = self.trainer.state()
        self.model.save(self.out, (arrays, {**facts, "corpus": self.corpus}))
        self.saved = self.trainer.number

    def check_output(self) -> None:
        """Write the model beside its place and remove it: a full or read-only folder shows before the training."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        if self.out.exists():
            nn.read(self.out)  # nothing but a checkpoint is ever replaced
            if not os.access(self.out, os.W_OK):
                where = f"out {self.out}"
                raise UserError(describe(where, "a read-only file", "one to replace", "choose another --out"))
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
        layers = "1 layer" if config.layers == 1 else f"{config.layers} layers"
        click.echo(
            f"{config.cell} of {layers} with {config.hidden} units, {count:,} parameters; {self.text.name}: "
            f"{len(self.text.content):,} characters, {len(self.model.vocabulary)} different; {recipe.budget()}",
            err=True,
        )
        if self.trainer.number:
            click.echo(f"going on after step {self.trainer.number:,}", err=True)

    def conclude(self) -> None:
        nats = self.model.evaluate(self.held_out)
        step, seconds = self.trainer.number, self.trainer.seconds
        epoch = step / self.batches.per_epoch
        self.metrics.add(step=step, epoch=epoch, seconds=seconds, validation_loss=nats, final=True)
        click.echo(
            f"{clock(seconds):>6}  step {step:>6,}  epoch {epoch:6.2f}  validation as one stream {nats:.4f} nats "
            f"a character, {nats / math.log(2):.3f} bits, perplexity {math.exp(nats):.2f}",
            err=True,
        )
        click.echo(f"saved {self.out}", err=True)


def _same_text(fingerprint: Any, text: Text) -> None:
    if fingerprint != text.fingerprint():
        known = fingerprint if isinstance(fingerprint, dict) else {}
        name, n = known.get("name"), known.get("characters")
        expected = f"the text that training began with, {name!r} of {n} characters"
        raise UserError(
            describe("resume", f"{text.name!r} of {len(text.content)} characters", expected, "pass it with --text")
        )


def free_name(path: Path) -> Path:
    """``path``, or with the first number behind its stem that no file has: a run by default replaces nothing.

    >>> free_name(Path("no-such-folder/lm.safetensors")).name
    'lm.safetensors'
    """
    names = (path.with_stem(f"{path.stem}-{n}") if n > 1 else path for n in range(1, 10**9))
    return next(p for p in names if not p.exists())
