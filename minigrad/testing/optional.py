"""Floor 6: what to say where Hypothesis is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs_hypothesis(where: str) -> Iterator[None]:
    """Inside, a missing Hypothesis becomes an ImportError that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "hypothesis":
            raise
        message = f"[{where}] got no module 'hypothesis', expected it installed; pip install 'minigrad[test]'"
        raise ImportError(message, name="hypothesis") from None
