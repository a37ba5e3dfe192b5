"""Floor 7: what a person sees of a training, and the file that keeps it."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from tqdm import tqdm

from minigrad.nn.checkpoint import write_atomically


class Bar:
    """A progress bar on stderr with a text beside it; where stderr is no terminal, only the lines are printed.

    >>> bar = Bar("starting")
    >>> bar.show(0.5, "loss 1.234")
    >>> bar.close()
    """

    def __init__(self, text: str):
        layout = "{percentage:3.0f}% |{bar:24}| {desc}"
        self.tqdm = tqdm(total=1.0, bar_format=layout, file=sys.stderr, disable=None, leave=False, miniters=0)
        self.tqdm.set_description_str(text)

    def show(self, progress: float, text: str) -> None:
        self.tqdm.n = progress
        self.tqdm.set_description_str(text, refresh=False)
        self.tqdm.update(0)

    def line(self, text: str) -> None:
        """A line that stays, above the bar."""
        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        self.tqdm.close()


def print_json(record: Any) -> None:
    """One line of JSON; it knows no NaN and no Inf, so those are null."""
    click.echo(json.dumps(json.loads(json.dumps(record), parse_constant=lambda name: None), ensure_ascii=False))


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of such a file as ``Metrics`` writes; lines that are none, as a torn last one, are passed over."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and type(record.get("step")) is int:
            found.append(record)
    return found


def seconds_until(path: Path, step: Any) -> float:
    """The time that a training took up to a step, as far as the records of such a file say."""
    records = read_records(path) if path.is_file() and type(step) is int else []
    times = [record.get("seconds") for record in records if record["step"] <= step]
    return max((float(s) for s in times if type(s) in (int, float) and 0 <= s < 1e12), default=0.0)


class Metrics:
    """A file with one JSON object a line, each with its ``step``.

    A resumed run keeps the lines up to its own step and goes on; a new one begins anew with its first record. Where
    ``older`` names a file, what is there is of another run and goes to that.

    >>> import tempfile
    >>> metrics = Metrics(Path(tempfile.mkdtemp()) / "metrics.jsonl", step=0)
    >>> metrics.add(step=10, loss=2.5)
    >>> metrics.path.read_text()
    '{"step": 10, "loss": 2.5}\\n'
    """

    older: Path | None = None

    def __init__(self, path: Path, step: int):
        self.path, self._step, self._fresh = path, step, True

    def add(self, **record: Any) -> None:
        if self._fresh:
            if self.older and self.path.exists():
                os.replace(self.path, self.older)
            known = read_records(self.path) if self.path.exists() else []
            kept = [old for old in known if old["step"] <= self._step and not old.get("final")]
            write_atomically(self.path, "".join(json.dumps(old) + "\n" for old in kept).encode())
            self._fresh = False
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """The first SIGINT or SIGTERM inside only adds its number to the list that this gives; the second acts as ever."""
    caught: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        restore()
        os.write(2, b"\nstopping after this step\n")  # print may not be entered twice

    def restore() -> None:
        for s, handler in before.items():
            signal.signal(s, handler)

    before = {s: signal.signal(s, note) for s in signals}
    try:
        yield caught
    finally:
        restore()


def perplexity(nats: float) -> float:
    """exp(nats), Inf if that is too large.

    >>> perplexity(0.0), perplexity(1e9)
    (1.0, inf)
    """
    return math.exp(nats) if nats < 700 else math.inf


def clock(seconds: float) -> str:
    """``1:05`` or ``2:00:00``.

    >>> clock(65), clock(7200)
    ('1:05', '2:00:00')
    """
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
