"""Floor 6: testing gradients. ``strategies``, ``op_test`` and ``pair_test`` need Hypothesis and load when asked for."""

from importlib import import_module
from typing import Any

from minigrad.testing.check import check_grad
from minigrad.testing.foreign import check_jvp, check_vjp
from minigrad.testing.frameworks import from_autograd, from_jax, from_torch
from minigrad.testing.report import CAUSES, GradientError, Verdict

__all__ = [
    "CAUSES", "GradientError", "Verdict", "check_grad", "check_jvp", "check_vjp", "from_autograd", "from_jax",
    "from_torch",
]  # fmt: skip

_LAZY = {"strategies": "strategies", "suites": "suites", "op_test": "suites", "pair_test": "suites"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'minigrad.testing' has no attribute '{name}'")
    module = import_module(f"minigrad.testing.{_LAZY[name]}")
    return module if name == _LAZY[name] else getattr(module, name)
