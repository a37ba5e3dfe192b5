"""Floor 7: a model in training: its file, what is printed on the way, and how it is stopped and resumed."""

from __future__ import annotations

import math
import os
import shlex
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, Self

import click
import numpy as np

from minigrad import nn
from minigrad.errors import UserError, describe
from minigrad.models.files import Training
from minigrad.models.place import kept, metrics_of, older, unchanged
from minigrad.models.progress import Bar, Metrics, clock, interruptible, seconds_until
from minigrad.models.recipe import BUDGETS, Recipe
from minigrad.models.settings import Settings, real, whole
from minigrad.models.training import Batches, Diverged, Step, Trainer

VALIDATING = 1 / 5  # of the time of training, where that is the budget; a validation too many is left out


@dataclass(frozen=True)
class Pace(Settings):
    """How often a run looks up from its work. Where the recipe lets validations decide, they are a part of it."""

    validations: int = whole(10, 0, 10**6, "on the way, evenly over the budget, each with a save; see --minutes")
    save_every: float = real(30.0, 0, math.inf, "seconds between two saves", closed=True)


class Run:
    """A model, the trainer of it, and the file ``out`` that keeps both.

    A subclass says what is learned: the classes of model, recipe, pace and vocabulary, ``read``, ``validation``,
    ``introduction``, ``conclusion`` and ``check_same``. A ``corpus`` is what is read, with a ``fingerprint()``.
    """

    command: ClassVar[tuple[str, ...]]  # that begins such a run
    kinds: ClassVar[tuple[type, type[Recipe], type[Pace], type[Settings]]]  # model, recipe, pace, vocabulary
    held: ClassVar[str]  # the field of the pace that says how much to validate with

    unit: str  # the symbol that losses are means over
    units: str  # of the speed
    symbols: float  # such in a step, about

    def __init__(self, corpus: Any, model: Any, recipe: Any, out: Path, pace: Any, spelling: Any,
                 training: Training | None = None):  # fmt: skip
        self.corpus, self.model, self.out, self.pace, self.spelling = corpus, model, out, pace, spelling
        self.recipe = recipe
        if recipe.judged and not pace.validations:
            got = "0 with --patience or --average nt-asgd, which go by them"
            raise UserError(describe("validations", got, "some"))
        self.batches, carry = self.read()
        self.trainer = Trainer(model, self.batches, carry, recipe)
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

    @classmethod
    def resume(cls, path: Path, corpus: Any, explicit: dict[str, Any], out: Path | None, pace: Any) -> Self:
        """From a checkpoint. ``explicit`` options must agree with it, but for a new budget."""
        where, (model_kind, recipe_kind, pace_kind, spelling_kind) = f"checkpoint {path}", cls.kinds
        model, training = model_kind.load_for_training(path)
        if training is None:
            expected = f"a file written by {' '.join(cls.command)}"
            raise UserError(describe(where, "a model without the state of its training", expected))
        facts = training[1]
        recipe = recipe_kind.from_json(where, facts.get("recipe"))
        spelling = spelling_kind.from_json(where, facts.get("spelling"))
        if budget := {name: explicit[name] for name in BUDGETS if name in explicit}:
            recipe = replace(recipe, **{**dict.fromkeys(BUDGETS), **budget})
        kept = {**model.config.to_json(), **recipe.to_json(), **spelling.to_json()}
        unchanged(explicit, kept, "a resumed run keeps its settings")
        corpus = cls.opened(corpus, spelling)
        cls.check_same(facts.get("corpus"), corpus)
        if type(size := facts.get(cls.held)) is int and cls.held not in explicit:
            pace = replace(pace, **{cls.held: size})
        if recipe.judged:
            pace = replace(pace_kind.from_json(where, facts.get("pace")), save_every=pace.save_every)
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

    # ---------------------------------------------------------------- what a subclass knows

    def read(self) -> tuple[Batches, Any]:
        """The batches, and what the model carries into the first; sets ``unit``, ``units`` and ``symbols``."""
        raise NotImplementedError

    def validation(self) -> float:
        """The loss on what is held out, in nats a ``unit``."""
        raise NotImplementedError

    def introduction(self) -> list[str]:
        """What is said before the first step."""
        raise NotImplementedError

    def conclusion(self) -> tuple[dict[str, Any], str]:
        """The last validation: a record for the file of metrics, and a line."""
        raise NotImplementedError

    @classmethod
    def opened(cls, given: Any, spelling: Any) -> Any:
        """The corpus, where how it is read depends on settings."""
        return given

    @classmethod
    def check_same(cls, known: Any, corpus: Any) -> None:
        """UserError where a fingerprint of a checkpoint is not that of this corpus."""
        raise NotImplementedError

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
            command = shlex.join(["minigrad", *self.command, "--resume", str(self.out), *again])
            click.echo(f"stopped after {self.trainer.number:,} steps, saved {self.out}", err=True)
            click.echo(f"go on with: {command}", err=True)
            return 128 + caught[0]
        try:
            self.conclude()
        except KeyboardInterrupt:
            click.echo(f"\nsaved {self.out}, trained to its end; only its last validation was cut off", err=True)
            raise
        return 0

    def train(self, bar: Bar) -> list[int]:
        """Steps, with a validation and a save now and then, until the end or a signal, whose number is given back."""
        trainer = self.trainer
        began, done = trainer.seconds, trainer.progress
        saved_at = since = time.monotonic()
        losses: list[float] = []  # since the last validation
        steps = iter(trainer)
        first = list(islice(steps, 1))  # it compiles; Ctrl-C ends that at once: there is nothing to save
        with interruptible() as caught:
            for step in chain(first, steps):
                losses.append(step.loss)
                progress, now = trainer.progress, time.monotonic()
                speed = len(losses) * self.symbols / max(now - since, 1e-9)
                left = (trainer.seconds - began) / max(progress - done, 1e-9) * (1 - progress)
                bar.show(progress, f"loss {np.mean(losses[-50:]):.3f}  {speed:,.0f} {self.units}/s  {clock(left)} left")
                due = math.floor(progress * self.pace.validations) > self.validated
                due &= progress < 1 or trainer.recipe.judged  # the last is the conclusion
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
        began = time.monotonic()
        with self.trainer.averaged(), self.trainer.paused():
            found = self.validation()
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
        facts |= {self.held: getattr(self.pace, self.held)}
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
        for line in self.introduction():
            click.echo(line, err=True)
        if self.replaces:
            click.echo(f"the model that is in {self.out} will be kept as {older(self.out)}", err=True)
        if self.trainer.number:
            step = f"step {self.trainer.number:,}"
            more = "a larger --steps, --epochs or --minutes would go on"
            done = self.trainer.progress == 1
            click.echo(f"finished before, at {step}; {more}" if done else f"going on after {step}", err=True)

    def conclude(self) -> None:
        step, seconds = self.trainer.number, self.trainer.seconds
        epoch = step / self.batches.per_epoch
        record, line = self.conclusion()
        self.metrics.add(step=step, epoch=epoch, seconds=seconds, **record, final=True)
        click.echo(f"{clock(seconds):>6}  step {step:>6,}  epoch {epoch:6.2f}  {line}", err=True)
        click.echo(f"saved {self.out}", err=True)
