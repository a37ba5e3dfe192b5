"""Floor 4: recurrences. ``scan`` runs a cell, written as its equations, over a sequence, compiled where it can be."""

from minigrad.compiler.explain import explain
from minigrad.compiler.fused import Call
from minigrad.compiler.scan import check_lengths, definition, scan, scan_together

__all__ = ["Call", "check_lengths", "definition", "explain", "scan", "scan_together"]
