"""Floor 7: vectors in training: the text, the file, what is printed, and how it is stopped and resumed."""

from __future__ import annotations

import math
import shlex
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from minigrad import nn
from minigrad.errors import UserError, describe
from minigrad.models.embed.config import OBJECTIVES, EmbedConfig
from minigrad.models.embed.formats import as_checkpoint, read_vectors
from minigrad.models.embed.hogwild import Report
from minigrad.models.embed.vectors import WordVectors
from minigrad.models.embed.words import Words, words_of
from minigrad.models.progress import Bar, Metrics, clock, interruptible
from minigrad.models.text import Text

PREFIX = "training."  # of the arrays that only training needs
SAVE_EVERY = 60.0  # seconds


class EmbedRun:
    """A training of vectors and the file ``out`` that keeps both; the file holds vectors like any other."""

    def __init__(self, text: Text, config: EmbedConfig, out: Path):
        self.text, self.config, self.out = text, config, out
        self.words: Words = words_of(
            text, config.min_count, config.vocab_size, config.tokens, config.lower, config.held_out
        )
        self.training = OBJECTIVES[config.objective].begin(self.words, config)
        self.seconds = 0.0  # of training, before this run too

    @classmethod
    def resume(cls, path: Path, text: Text, explicit: dict[str, Any], out: Path | None) -> EmbedRun:
        """From a file. ``explicit`` options must agree with it, but for more epochs and other threads."""
        where = f"vectors {path}"
        arrays, meta = nn.read(path)
        facts = meta.get("training")
        if not isinstance(facts, dict):
            got = "vectors without the state of their training"
            raise UserError(describe(where, got, "a file written by embed train"))
        kept = EmbedConfig.from_json(where, facts.get("config")).to_json()
        free = {name: explicit[name] for name in ("epochs", "threads") if name in explicit}
        for name, value in explicit.items():
            if name not in free and value != kept[name]:
                got, do = f"--{name.replace('_', '-')} {value}", "a resumed run keeps its settings"
                raise UserError(describe("resume", got, str(kept[name]), do))
        if facts.get("text") != text.fingerprint():
            known = facts.get("text") if isinstance(facts.get("text"), dict) else {}
            got, expected = f"the text {text.name!r}", f"the one that training began with, {known.get('name')!r}"
            raise UserError(describe("resume", got, expected, "pass that file"))
        run = cls(text, EmbedConfig(**{**kept, **free}), out or path)
        state = {name.removeprefix(PREFIX): a for name, a in arrays.items() if name.startswith(PREFIX)}
        run.training.restore(where, state)
        seconds = facts.get("seconds")
        if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
            raise UserError(describe(where, "a damaged state of training", "what embed train wrote"))
        run.seconds = float(seconds)
        return run

    @property
    def done(self) -> bool:
        return len(self.training.losses) >= self.config.epochs

    def vectors(self) -> WordVectors:
        found = self.training.vectors()
        if isinstance(found, WordVectors):
            return found
        return WordVectors(self.words.words, found.astype(np.float32, copy=False), self.words.counts)

    def run(self, source: str) -> int:
        """Train until all epochs are over; the exit code. ``source``: the file, as a resumption must name it."""
        self.check_output()
        self.introduce()
        self.metrics = Metrics(self.out.with_suffix(".metrics.jsonl"), len(self.training.losses))
        bar = Bar("compiling kernels")
        try:
            with interruptible() as caught:
                self.train(bar, caught)
        finally:
            bar.close()
        self.save()
        if caught and not self.done:
            command = shlex.join(["minigrad", "embed", "train", source, "--resume", str(self.out)])
            click.echo(f"stopped in epoch {len(self.training.losses) + 1}, saved {self.out}", err=True)
            click.echo(f"go on with: {command}", err=True)
            return 128 + caught[0]
        click.echo(f"saved {self.out}: {len(self.words.words):,} words of {self.config.dim} numbers", err=True)
        return 0

    def train(self, bar: Bar, caught: list[int]) -> None:
        began, before, saved = time.monotonic(), self.seconds, time.monotonic()
        last: tuple[float, float] | None = None  # when this epoch began for this run, and what was done of it then
        for report in self.training:
            now = time.monotonic()
            self.seconds = before + now - began
            last = last or (began, 0.0)
            speed = report.done / max(now - last[0], 1e-9)
            share = (report.epoch - 1 + report.done / report.total) / self.config.epochs
            left = (now - began) / max(share, 1e-9) * (1 - share)
            bar.show(
                share, f"epoch {report.epoch}  loss {report.loss:.4f}  {speed:,.0f} {self.unit}/s  {clock(left)} left"
            )
            if report.done == report.total:
                self.report(bar, report, speed)
                last = (time.monotonic(), 0.0)
            if caught:
                return
            if now - saved > SAVE_EVERY:
                self.save()
                saved = time.monotonic()

    @property
    def unit(self) -> str:
        return "records" if self.config.objective == "glove" else "words"

    def report(self, bar: Bar, report: Report, speed: float) -> None:
        """The end of an epoch: its exact mean loss, and that of the held-out text."""
        held_out = self.training.held_out_loss() if hasattr(self.training, "held_out_loss") else None
        record = {} if held_out is None else {"held_out_loss": held_out}
        self.metrics.add(step=report.epoch, loss=report.loss, **record, seconds=self.seconds,
                         **{f"{self.unit}_per_second": speed})  # fmt: skip
        beside = "" if held_out is None else f"  held out {held_out:.4f}"
        text = f"epoch {report.epoch:>3}  loss {report.loss:.4f}{beside}"
        bar.line(f"{clock(self.seconds):>6}  {text}  {speed:,.0f} {self.unit}/s")

    # ---------------------------------------------------------------- its file

    def save(self) -> None:
        """The vectors, with all that a resumption needs."""
        tensors, meta = as_checkpoint(self.vectors())
        tensors |= {PREFIX + name: a for name, a in self.training.state().items()}
        facts = {"config": self.config.to_json(), "text": self.text.fingerprint(), "seconds": self.seconds}
        nn.write(self.out, tensors, {**meta, "training": facts})

    def check_output(self) -> None:
        """Before training: the place can be written, and holds vectors or nothing."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        if self.out.exists() and self.out.stat().st_size:
            read_vectors(self.out, most=1)
        probe = self.out.with_name(f".{self.out.name}.probe")
        size = sum(a.nbytes for a in self.training.state().values())
        nn.write(probe, {"room": np.zeros(size + 4 * len(self.words.words) * self.config.dim, np.uint8)}, {})
        probe.unlink()

    def introduce(self) -> None:
        c, n = self.config, len(self.words.tokens)
        known = int(self.words.counts.sum())
        click.echo(
            f"{c.objective} of {c.dim} numbers, window {c.window}; {self.text.name}: {n:,} tokens, {known:,} of "
            f"{len(self.words.words):,} words that occur {c.min_count} times at least; {c.epochs} epochs, "
            f"{c.threads} thread{'s' if c.threads > 1 else ''}",
            err=True,
        )
        if epochs := len(self.training.losses):
            more = "; a larger --epochs would go on" if self.done else ""
            click.echo(f"{'finished before' if self.done else 'going on'} after epoch {epochs}{more}", err=True)
