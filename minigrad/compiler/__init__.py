"""Floor 4: recurrences. ``scan`` runs a cell, written as its equations, over a sequence."""

from minigrad.compiler.scan import check_lengths, scan

__all__ = ["check_lengths", "scan"]
