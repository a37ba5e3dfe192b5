"""Floor 7: words of a line such that the line comes back exactly: marks carry a joiner where there is no space.

The joiner and the rule are those of OpenNMT's Tokenizer (Klein et al. 2017, "OpenNMT: Open-source toolkit for neural
machine translation").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache

JOINER = "\uffed"
ESCAPED = "<U+FFED>"  # a joiner that stands in the text; no other token has two marks


def tokenise(line: str) -> list[str]:
    """Words (runs of letters and digits) and marks; a mark carries U+FFED on the side where there is no space.

    Letters of scripts that write no spaces make one long word: for those take characters or subwords.

    >>> print(*tokenise("Don't go."))
    Don ￭'￭ t go ￭.
    >>> detokenise(tokenise('He  said "no" (twice).'))
    'He said "no" (twice).'
    """
    return [token for piece in line.split() for token in _tokens(piece)]


def detokenise(tokens: Iterable[str]) -> str:
    """The line; runs of white space have become one space."""
    parts, joined = [], True
    for token in tokens:
        core = token.strip(JOINER)
        if not (joined or token.startswith(JOINER)):
            parts.append(" ")
        parts.append(JOINER if core == ESCAPED else core)
        joined = token.endswith(JOINER)
    return "".join(parts)


@lru_cache(1 << 16)  # a few pieces make most of a text
def _tokens(piece: str) -> tuple[str, ...]:
    """Those of what stands between two spaces."""
    if piece.isalnum():
        return (piece,)
    parts = _words().findall(piece)
    word = [part[0].isalnum() for part in parts] + [False]
    return tuple(
        part if word[i] else JOINER * (i > 0) + (ESCAPED if part == JOINER else part) + JOINER * word[i + 1]
        for i, part in enumerate(parts)
    )


@cache
def _words() -> re.Pattern:
    """A word with the combining marks in it, which ``\\w`` leaves out, or else one character."""
    combining = (c for c in map(chr, range(0x300, 0x20000)) if unicodedata.category(c)[0] == "M")
    inner = "\u200c\u200d" + "".join(combining)  # and those that only change how letters join
    return re.compile(rf"[^\W_]+(?:[{inner}]+[^\W_]*)*|.", re.DOTALL)
