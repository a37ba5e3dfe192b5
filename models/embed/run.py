"""Floor 7: vectors in training: the text, the file, what is printed, and how it is stopped and resumed."""

from __future__ import annotations

import math
import shlex
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import numpy as np

from minigrad import nn
from minigrad.errors import UserError, describe
from minigrad.models.embed.config import OBJECTIVES, EmbedConfig
from minigrad.models.embed.formats import as_checkpoint, check_out
from minigrad.models.embed.hogwild import Report
from minigrad.models.embed.vectors import WordVectors
from minigrad.models.embed.words import Words, words_of
from minigrad.models.place import kept, metrics_of, older, unchanged
from minigrad.models.progress import Bar, Metrics, clock, interruptible
from minigrad.models.text import Text
from minigrad.models.training import Diverged

PREFIX = "training."  # of the arrays that only training needs
SAVE_EVERY = 30.0  # seconds


class EmbedRun:
    """A training of vectors and the file ``out`` that keeps both; the file holds vectors like any other."""

    def __init__(self, text: Text, config: EmbedConfig, out: Path, replaces: bool = False):
        self.text, self.config, self.out, self.replaces = text, config, out, replaces
        self.words: Words = words_of(
            text, config.min_count, config.vocab_size, config.tokens, config.lower, config.held_out
        )
        self.training = OBJECTIVES[config.objective].begin(self.words, config)
        self.metrics = Metrics(metrics_of(out), 0)
        self.seconds = 0.0  # of training, before this run too
        self.saved = False

    @classmethod
    def new(cls, text: Text, config: EmbedConfig, out: Path) -> EmbedRun:
        """From the beginning; vectors that are at ``out`` stay under another name."""
        check_out(out)
        run = cls(text, config, out, replaces=out.exists() and out.stat().st_size > 0)
        if run.replaces:
            run.metrics.older = older(run.metrics.path)
        return run

    @classmethod
    def resume(cls, path: Path, text: Text, explicit: dict[str, Any], out: Path | None) -> EmbedRun:
        """From a file. ``explicit`` options must agree with it, but for more epochs and other threads."""
        where = f"vectors {path}"
        arrays, meta = nn.read(path)
        check_out(out or path)
        facts = meta.get("training")
        if not isinstance(facts, dict):
            got = "vectors without the state of their training"
            raise UserError(describe(where, got, "a file written by embed train"))
        settings = EmbedConfig.from_json(where, facts.get("config")).to_json()
        free = {name: explicit[name] for name in ("epochs", "threads") if name in explicit}
        unchanged({k: v for k, v in explicit.items() if k not in free}, settings, "a resumed run keeps its settings")
        if facts.get("text") != text.fingerprint():
            known = facts["text"] if isinstance(facts.get("text"), dict) else {}
            got, expected = f"the text {text.name!r}", f"the one that training began with, {known.get('name')!r}"
            raise UserError(describe("resume", got, expected, "pass that file"))
        run = cls(text, EmbedConfig(**{**settings, **free}), out or path)
        state = {name.removeprefix(PREFIX): a for name, a in arrays.items() if name.startswith(PREFIX)}
        twins = facts.get("twins")
        state |= {
            name: arrays[twin] for name, twin in (twins.items() if isinstance(twins, dict) else ()) if twin in arrays
        }
        run.training.restore(where, state)
        seconds = facts.get("seconds")
        if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
            raise UserError(describe(where, "a damaged state of training", "what embed train wrote"))
        run.seconds, run.saved = float(seconds), out is None
        run.metrics = Metrics(metrics_of(run.out), len(run.training.losses))
        return run

    @property
    def done(self) -> bool:
        return len(self.training.losses) >= self.config.epochs

    def vectors(self) -> WordVectors:
        found = self.training.vectors()
        if isinstance(found, WordVectors):
            return found
        return WordVectors(self.words.words, found.astype(np.float32, copy=False), self.words.counts)

    def run(self, again: list[str]) -> int:
        """Train until all epochs are over; the exit code. ``again``: the arguments that a resumption needs."""
        self.check_room()
        self.introduce()
        bar = Bar("compiling kernels")
        try:
            with interruptible() as caught:
                self.train(bar, caught)
        except Diverged as error:
            held = f"{self.out} holds what was saved before" if self.saved else "nothing was written"
            raise UserError(f"{error}; {held}") from None
        finally:
            bar.close()
        self.save()
        if caught and not self.done:
            command = shlex.join(["minigrad", "embed", "train", *again, "--resume", str(self.out)])
            click.echo(f"stopped in epoch {len(self.training.losses) + 1}, saved {self.out}", err=True)
            click.echo(f"go on with: {command}", err=True)
            return 128 + caught[0]
        click.echo(f"saved {self.out}: {len(self.words.words):,} words of {self.config.dim} numbers", err=True)
        return 0

    def train(self, bar: Bar, caught: list[int]) -> None:
        """Epoch after epoch, with a save now and then, until the end or a signal."""
        began, before, saved = time.monotonic(), self.seconds, time.monotonic()
        first: float | None = None  # the share of everything that was done when this run began to look
        since, behind = began, 0  # when this run came into the epoch, and how much of it was done by then
        for report in self.training:
            now = time.monotonic()
            self.seconds = before + now - began
            share = (report.epoch - 1 + report.done / report.total) / self.config.epochs
            if first is None:  # the first tasks compile, too
                first, since, behind = share, now, report.done
            speed = (report.done - behind) / max(now - since, 1e-9)
            left = (now - began) / max(share - first, 1e-9) * (1 - share)
            shown = f"{speed:,.0f} {self.unit}/s  {clock(left)} left" if share > first else ""
            bar.show(share, f"epoch {report.epoch}  loss {report.loss:.4f}  {shown}")
            if report.done == report.total:
                self.report(bar, report, speed)
                since, behind = time.monotonic(), 0
            if caught:
                return
            if now - saved > SAVE_EVERY:
                self.save()
                saved = time.monotonic()

    @property
    def unit(self) -> str:
        return "records" if self.config.objective == "glove" else "words"

    def report(self, bar: Bar, report: Report, speed: float) -> None:
        """The end of an epoch: its mean loss, and that of the held-out text."""
        held_out = self.training.held_out_loss()
        record = {} if held_out is None else {"held_out_loss": held_out}
        if speed:
            record[f"{self.unit}_per_second"] = speed
        self.metrics.add(step=report.epoch, loss=report.loss, seconds=self.seconds, **record)
        beside = "" if held_out is None else f"  held out {held_out:.4f}"
        rate = f"  {speed:,.0f} {self.unit}/s" if speed else ""
        bar.line(f"{clock(self.seconds):>6}  epoch {report.epoch:>3}  loss {report.loss:.4f}{beside}{rate}")

    # ---------------------------------------------------------------- its file

    def save(self) -> None:
        """The vectors, with all that a resumption needs; an array that is one of the vectors' is not written twice."""
        tensors, meta = as_checkpoint(self.vectors())
        state = self.training.state()
        twins = {name: own for name, a in state.items() for own in ("vectors", "rows")
                 if own in tensors and np.shares_memory(a, tensors[own])}  # fmt: skip
        tensors |= {PREFIX + name: a for name, a in state.items() if name not in twins}
        facts = {"config": self.config.to_json(), "text": self.text.fingerprint(), "seconds": self.seconds}
        with kept(self.out) if self.replaces else nullcontext():
            nn.write(self.out, tensors, {**meta, "training": {**facts, "twins": twins}})
        self.replaces, self.saved = False, True

    def check_room(self) -> None:
        """As large a file can be written in the folder: it is seen before the training."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        probe = self.out.with_name(f".{self.out.name}.probe")
        size = sum(a.nbytes for a in self.training.state().values()) + 4 * len(self.words.words) * self.config.dim
        nn.write(probe, {"room": np.zeros(size, np.uint8)}, {})
        probe.unlink()

    def introduce(self) -> None:
        c, known, total = self.config, int(self.words.counts.sum()), len(self.words.tokens)
        threads = "" if c.objective == "neural" else f", {_count(c.threads, 'thread')}"
        click.echo(
            f"{c.objective} of {c.dim} numbers, window {c.window}; {self.text.name}: {total:,} tokens, "
            f"{known:,} of {len(self.words.words):,} words that occur {_count(c.min_count, 'time')} at least; "
            f"{_count(c.epochs, 'epoch')}{threads}; loss in {OBJECTIVES[c.objective].loss}",
            err=True,
        )
        if self.replaces:
            click.echo(f"the vectors that are in {self.out} will be kept as {older(self.out)}", err=True)
        if epochs := len(self.training.losses):
            more = "; a larger --epochs would go on" if self.done else ""
            click.echo(f"{'finished before' if self.done else 'going on'} after epoch {epochs}{more}", err=True)


def _count(n: int | None, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")
