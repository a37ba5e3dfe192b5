"""Floor 4: recurrences. ``scan`` runs a cell, written as its equations, over a sequence, compiled where it can be."""

from minigrad.compiler.explain import explain
from minigrad.compiler.scan import check_lengths, definition, scan

__all__ = ["check_lengths", "definition", "explain", "scan"]
