"""The pytest plugin: marker ``gradcheck``, the Hypothesis profiles of minigrad, one line in the report.

It is installed as the package ``minigrad_pytest`` of its own, because pytest imports it at every start, also where
nobody uses minigrad: it imports neither minigrad nor NumPy nor Hypothesis, only looks whether a test has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

PROPERTY = "minigrad gradient checks"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: Any) -> None:
    config.addinivalue_line("markers", "gradcheck: checks gradients; select with -m gradcheck")
    if str(config.getoption("--hypothesis-profile", None) or "").startswith("minigrad"):
        from minigrad.testing import profiles  # noqa: F401  # registers them


def pytest_itemcollected(item: Any) -> None:
    if getattr(getattr(item, "obj", None), "is_gradcheck", False):
        item.add_marker("gradcheck")


def _counts() -> tuple[int, int]:
    module = sys.modules.get("minigrad.testing.tally")
    return (module.Tally.checks, module.Tally.examples) if module else (0, 0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: Any) -> Iterator[None]:
    before = _counts()
    yield
    checks, examples = (now - then for now, then in zip(_counts(), before))
    if checks or examples:
        item.user_properties.append((PROPERTY, [checks, examples]))  # travels from the workers of pytest-xdist too


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [r for found in terminalreporter.stats.values() for r in found if getattr(r, "when", "") == "call"]
    counts = [value for r in reports for name, value in r.user_properties if name == PROPERTY]
    if counts:
        checks, examples = map(sum, zip(*counts))
        terminalreporter.write_line(f"minigrad: {checks} gradient checks, {examples} examples, in {len(counts)} tests")
