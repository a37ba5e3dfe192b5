"""Floor 6: the command line: a group that finds its commands by their entry points, and prints errors as one line."""

from minigrad.cli.group import Commands, main

__all__ = ["Commands", "main"]
