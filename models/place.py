"""Floor 7: where a run keeps its file: a free name, the file before it, and what a resumption must agree with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from minigrad.errors import UserError, describe


def free_name(path: Path) -> Path:
    """``path``, or with the first number behind its stem that no file has: a run by default replaces nothing. The file
    is made, empty, so that no other run takes the name.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "runs" / "lm.safetensors"
    >>> free_name(path).name, free_name(path).name
    ('lm.safetensors', 'lm-2.safetensors')
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for n in count(1):
        free = path.with_stem(f"{path.stem}-{n}") if n > 1 else path
        try:
            free.open("x").close()
        except FileExistsError:
            continue
        break
    return free


@contextmanager
def reserved(given: Path | None, default: Path) -> Iterator[Path]:
    """``given``, or a free name for ``default``, which is free again if nothing came of it."""
    own = given or free_name(default)
    try:
        yield own
    finally:
        if not given and own.exists() and not own.stat().st_size:
            own.unlink()


def older(path: Path) -> Path:
    """What a file is called once another has taken its place: ``lm.old.safetensors``, ``lm.old.metrics.jsonl``."""
    stem, dot, ending = path.name.partition(".")
    return path.with_name(f"{stem}.old{dot}{ending}")


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """What is at ``path``, and replaced inside, stays under its older name."""
    real = Path(os.path.realpath(path))
    spare = real.with_name(f".{real.name}.{os.getpid()}.old")
    try:
        try:
            os.link(real, spare)
        except OSError:  # a file system without such links
            shutil.copy2(real, spare)
        yield
        os.replace(spare, older(path))
    finally:
        spare.unlink(missing_ok=True)


def metrics_of(out: Path) -> Path:
    """The file beside a model that keeps the course of its training."""
    return out.with_suffix(".metrics.jsonl")


def unchanged(explicit: dict[str, Any], kept: dict[str, Any], why: str) -> None:
    """UserError where an option asks for something else than what a checkpoint holds."""
    for name, value in kept.items():
        if explicit.get(name, value) != value:
            raise UserError(describe("resume", f"--{name.replace('_', '-')} {explicit[name]}", str(value), why))
