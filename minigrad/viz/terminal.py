"""Floor 6: tables and coloured text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

_SIGNED = (25, 32, 74, 117, 153, 254, 223, 216, 209, 202, 166)  # of the 256 colours: blue, white, orange
_SHARE = (234, 236, 238, 240, 242, 244, 246, 248, 250, 252, 255)  # black to white


def on_colour(text: str, value: float, *, signed: bool = False) -> str:
    """``text`` on a background that shows ``value``: from 0, dark, to 1, light; ``signed``: -1, blue, to 1, orange.

    >>> on_colour("a", 1.0)
    '\\x1b[48;5;255;38;5;16ma\\x1b[0m'
    """
    share = (value + 1) / 2 if signed else value
    step = round(10 * min(max(share, 0.0), 1.0)) if share == share else 5
    dark = step in (0, 1, 10) if signed else step < 5
    return f"\x1b[48;5;{(_SIGNED if signed else _SHARE)[step]};38;5;{231 if dark else 16}m{text}\x1b[0m"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as lines, with columns as wide as their widest; all but a first one of names stand to the right.

    >>> print(table(("cell", "error"), [("lstm", 0.5), ("gru", 12)]))
    cell  error
    lstm    0.5
    gru      12
    """
    texts = [list(head), *([_shown(x) for x in row] for row in rows)]
    widths = [max(len(row[k]) for row in texts) for k in range(len(head))]
    right = [k > 0 or not all(isinstance(row[0], str) for row in rows) for k in range(len(head))]
    lines = ["  ".join(t.rjust(w) if r else t.ljust(w) for t, w, r in zip(row, widths, right)) for row in texts]
    return "\n".join(line.rstrip() for line in lines)


def _shown(x: object) -> str:
    return x if isinstance(x, str) else f"{x:,.4g}" if isinstance(x, float) else f"{x:,}"
