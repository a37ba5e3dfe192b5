"""Floor 7: texts: what is read, and what tells one from another."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
