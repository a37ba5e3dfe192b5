"""Floor 6: how many gradient checks and how many examples ran; the pytest plugin reports it."""

from __future__ import annotations


class Tally:
    """Counts since the process began."""

    checks = 0
    examples = 0
