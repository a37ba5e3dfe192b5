"""Floor 6: testing gradients. ``strategies``, ``op_test`` and ``pair_test`` need Hypothesis and load when asked for."""

from importlib import import_module
from typing import Any

from minigrad.testing.check import GradientError, check_grad

__all__ = ["GradientError", "check_grad"]

_LAZY = {"strategies": "strategies", "suites": "suites", "op_test": "suites", "pair_test": "suites"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'minigrad.testing' has no attribute '{name}'")
    module = import_module(f"minigrad.testing.{_LAZY[name]}")
    return module if name == _LAZY[name] else getattr(module, name)
