"""Floor 7: text as numbers: reading it, a vocabulary of characters, and windows of parallel streams."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.errors import UserError, describe

TRAINING_SHARE = 0.9  # of a text, by position; the rest is for validation


@dataclass(frozen=True)
class Text:
    """A text and what it is called.

    >>> Text("greeting", "hello").fingerprint()["characters"]
    5
    """

    name: str
    content: str

    def fingerprint(self) -> dict[str, Any]:
        """What tells this text from another, for a checkpoint."""
        digest = hashlib.sha256(self.content.encode()).hexdigest()
        return {"name": self.name, "characters": len(self.content), "sha256": digest}

    def parts(self) -> tuple[str, str]:
        """The first nine tenths, to train on, and the last, to validate."""
        cut = int(TRAINING_SHARE * len(self.content))
        return self.content[:cut], self.content[cut:]


def read_text(path: str | os.PathLike) -> Text:
    """A UTF-8 file, with line ends as ``\\n``; UserError if it is missing, empty, binary or in another encoding."""
    where, expected = f"text {path}", "a plain text file in UTF-8"
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise UserError(describe(where, "a folder" if stat.S_ISDIR(mode) else "a device", expected))
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(describe(where, error.strerror or str(error), expected)) from None
    if not data:
        raise UserError(describe(where, "an empty file", expected))
    if b"\0" in data:
        at = data.index(b"\0")
        raise UserError(describe(where, f"binary data (a zero byte at {at})", expected))
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        got = f"byte 0x{data[error.start]:02x} at {error.start}, which is not UTF-8"
        raise UserError(describe(where, got, expected, "convert it, for example with iconv")) from None
    return Text(Path(path).name, content.replace("\r\n", "\n").replace("\r", "\n"))


def default_text() -> Text:
    """The English text that every CPython carries: the help topics of the language, in alphabetical order."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise UserError(describe("text", "a Python without pydoc_data", "some text", "pass --text FILE")) from None
    return Text("pydoc_data.topics", "\n\n".join(topics[name] for name in sorted(topics)))


class CharVocabulary:
    """Characters as integers 0 .. V-1, in the order of their code points.

    >>> v = CharVocabulary.of("hello")
    >>> v.encode("hole").tolist(), v.decode([1, 0])
    ([1, 3, 2, 0], 'he')
    """

    kind = "characters"

    def __init__(self, symbols: str):
        self.symbols = "".join(sorted(set(symbols)))
        self._codes = _codes(self.symbols)  # (V,), rising

    @classmethod
    def of(cls, text: str) -> CharVocabulary:
        """All characters of a text."""
        return cls(text)

    def __len__(self) -> int:
        return len(self.symbols)

    unit, unknown = "character", None

    def token(self, i):
        return self.symbols[i]

    @property
    def end(self) -> int | None:
        return self.symbols.find("\n") if "\n" in self.symbols else None

    @property
    def start(self) -> int:
        """What stands before the first character of a text: a line end, if there is one."""
        return max(self.symbols.find("\n"), 0)

    def encode(self, text: str, where: str = "text") -> np.ndarray:
        """Integers (len(text),); UserError naming the first character that is not in the vocabulary."""
        codes = _codes(text)
        ids = np.minimum(np.searchsorted(self._codes, codes), len(self) - 1)
        unknown = self._codes[ids] != codes
        if unknown.any():
            at = int(unknown.argmax())
            got = f"the character {text[at]!r} (U+{ord(text[at]):04X}) at position {at}"
            raise UserError(describe(where, got, f"one of the {len(self)} characters that the model was trained on"))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.symbols[i] for i in ids)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "symbols": self.symbols}

    @classmethod
    def from_json(cls, where: str, values: Any) -> CharVocabulary:
        """The vocabulary that ``to_json`` gave; UserError if a file holds anything else."""
        symbols = values.get("symbols") if isinstance(values, dict) and values.get("kind") == cls.kind else None
        if not isinstance(symbols, str) or len(symbols) < 2 or any(a >= b for a, b in zip(symbols, symbols[1:])):
            raise UserError(describe(where, "a damaged vocabulary", "two or more characters in rising order"))
        if any("\ud800" <= c <= "\udfff" for c in symbols):
            raise UserError(describe(where, "a vocabulary with half characters (surrogates)", "characters"))
        return cls(symbols)


def _codes(text: str) -> np.ndarray:
    """Code points (len(text),)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def columns(ids: np.ndarray, streams: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (L, B): B contiguous streams of equal length, the target of each symbol being the next.

    >>> inputs, targets = columns(np.arange(7), 2)
    >>> inputs.T.tolist(), targets.T.tolist()
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    n = (len(ids) - 1) // streams * streams
    return ids[:n].reshape(streams, -1).T, ids[1 : n + 1].reshape(streams, -1).T


class Windows:
    """The batches of truncated back-propagation: B contiguous streams, cut into windows of T symbols.

    A batch is a function of the number of the step alone, so a resumed run needs no other position. The state that
    the model carries from window to window fits, but for the streams that begin anew, marked in ``fresh`` (B,): all
    at the start of an epoch, and each, by turns, after ``reset`` windows (0: never). Without those, the model would
    see an empty state once an epoch, and write nonsense from one.

    >>> (inputs, targets), fresh = Windows(np.arange(9), batch=2, window=2, reset=0)(3)
    >>> inputs.T.tolist(), targets.T.tolist(), fresh.tolist()
    ([[2, 3], [6, 7]], [[3, 4], [7, 8]], [False, False])
    """

    def __init__(self, ids: np.ndarray, batch: int, window: int, reset: int):
        if len(ids) <= batch * window:
            got, expected = f"{len(ids):,} characters to train on", f"more than batch x window = {batch * window:,}"
            do = "use a longer text, or a smaller --batch or --window"
            raise UserError(describe("text", f"only {got}", expected, do))
        self.inputs, self.targets = columns(ids, batch)  # (L, B)
        self.window = window
        self.per_epoch = len(self.inputs) // window
        self.reset = reset or self.per_epoch
        self.turn = np.arange(batch) * self.reset // batch if reset else np.zeros(batch, int)  # (B,)

    def __call__(self, step: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        k = step % self.per_epoch
        part = slice(k * self.window, (k + 1) * self.window)
        return (self.inputs[part], self.targets[part]), (k == 0) | ((k + self.turn) % self.reset == 0)
