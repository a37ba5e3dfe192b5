"""Every code block of README.md and docs/, and every example in a docstring, runs and prints what the page says."""

import doctest
import importlib
import pkgutil
import re
import runpy
from pathlib import Path

import pytest

import minigrad
import minigrad.models
from minigrad.errors import DeviceError
from minigrad.ops import REGISTRY

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NEEDS = {"08_kernels_without_a_gpu.md": "greenlet"}  # pages whose blocks want a package that is optional
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Pages may write files and register operations; both are gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)  # a page runs pytest itself
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


def code_of(text):
    """The page with everything blanked but the Python blocks, so that line numbers stay."""
    lines = [""] * (text.count("\n") + 1)
    for block in FENCE.finditer(text):
        assert ">>>" in block[1], f"a Python block without prompts is not checked:\n{block[1]}"
        first = text.count("\n", 0, block.start(1))
        lines[first : first + block[1].count("\n")] = block[1].splitlines()
    return "\n".join(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_page(page):
    """The blocks of a page are one session, from the first to the last."""
    if page.name in NEEDS:
        pytest.importorskip(NEEDS[page.name], reason=f"the page needs {NEEDS[page.name]}")
    test = doctest.DocTestParser().get_doctest(code_of(page.read_text()), {}, page.name, str(page), 0)
    assert doctest.DocTestRunner(optionflags=FLAGS).run(test).failed == 0


@pytest.mark.parametrize("name", sorted(set(modules())))
def test_docstrings(name):
    try:
        module = importlib.import_module(name)
    except DeviceError as error:  # what compiles for a GPU, without the packages for it
        pytest.skip(str(error))
    assert doctest.testmod(module, optionflags=FLAGS).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_reference_is_up_to_date():
    page = runpy.run_path(str(ROOT / "docs" / "reference.py"))["page"]()
    assert (ROOT / "docs" / "reference.md").read_text() == page, "run: python docs/reference.py > docs/reference.md"
