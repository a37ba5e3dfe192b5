"""Every code block of README.md and docs/, and every example in a docstring, runs and prints what the page says."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import minigrad
import minigrad.models
from minigrad.ops import REGISTRY, reference

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Pages may write files and register operations; both are gone afterwards."""
    monkeypatch.chdir(tmp_path)
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


def modules():
    for package in (minigrad, minigrad.models):
        yield package.__name__
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield found.name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_page(page):
    """Blocks share one namespace, from the first to the last. One with prompts is checked, one without is run."""
    text = page.read_text()
    names, runner = {"__name__": "__page__"}, doctest.DocTestRunner(optionflags=FLAGS)
    for block in FENCE.finditer(text):
        code, before = block[1], text.count("\n", 0, block.start(1))
        if ">>>" in code:
            test = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), before)
            runner.run(test, clear_globs=False)
            names = test.globs
        else:
            exec(compile("\n" * before + code, page, "exec"), names)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("name", sorted(set(modules())))
def test_docstrings(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=FLAGS).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_reference_is_up_to_date():
    page = (ROOT / "docs" / "reference.md").read_text()
    assert page == reference.page(), "run: python -m minigrad.ops.reference > docs/reference.md"
