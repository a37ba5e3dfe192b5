"""The shape of the source: imports only point down, the engine names no operation, files stay short."""

import ast
import builtins
import re
from pathlib import Path

import pytest

from minigrad.ops import REGISTRY

ROOT = Path(__file__).parents[1]
FLOORS = {
    "errors": 0, "config": 0, "scalars": 1, "kernels": 2, "engine": 3, "ops": 4, "compiler": 4, "nn": 5, "optim": 5,
    "testing": 6, "viz": 6, "cli": 6, "models": 7,
}  # fmt: skip
SOURCES = sorted([*ROOT.glob("minigrad/**/*.py"), *ROOT.glob("models/**/*.py")])
TESTS = sorted(ROOT.glob("tests/**/*.py"))


def name_of(path):
    return str(path.relative_to(ROOT))


def floor_of(module):
    """Of "minigrad.ops.record": that of "ops". The package itself holds all floors below the models."""
    parts = module.split(".")
    return FLOORS[parts[1]] if len(parts) > 1 else FLOORS["cli"]


def imports(path):
    """Modules of the package that a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: imports are absolute"
            if node.module == "minigrad":  # from minigrad import ops, tensor
                yield from (f"minigrad.{a.name}" if a.name in FLOORS else "minigrad" for a in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_only_point_down(path):
    if path == ROOT / "minigrad/__init__.py":
        return
    own = path.relative_to(ROOT).with_suffix("").parts
    own = "minigrad." + ".".join(own[1:] if own[0] == "minigrad" else own)
    below = [m for m in imports(path) if m.split(".")[0] == "minigrad"]
    assert [m for m in below if floor_of(m) > floor_of(own)] == []


def test_every_file_stands_on_a_floor():
    names = {p.relative_to(ROOT / "minigrad").parts[0].removesuffix(".py") for p in SOURCES if "minigrad" in p.parts}
    assert names - {"__init__", "__main__"} <= set(FLOORS)


def test_only_generated_kernels_are_imported_by_name_at_run_time():
    """A module named by a string escapes the check of imports; only the command line looks for what is installed."""
    lower = [p for p in SOURCES if not {"models", "cli", "testing", "viz"} & set(p.relative_to(ROOT).parts)]
    users = [name_of(p) for p in lower if re.search(r"import_module|__import__|module_from_spec", p.read_text())]
    assert users == ["minigrad/kernels/source.py"]


ARITHMETIC = {"add", "sum_to", "stack", "reshape"}  # what the engine needs of cotangents, supplied by ``Basis``


def operations_named(path):
    """Calls of functions or methods, and texts, that have the name of an operation."""
    known = set(REGISTRY) - ARITHMETIC - set(dir(builtins))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in known:
                yield node.lineno, name
        elif isinstance(node, ast.Constant) and node.value in known - {"where"}:  # an English word: a source line
            yield node.lineno, node.value


@pytest.mark.parametrize("path", sorted(ROOT.glob("minigrad/engine/*.py")), ids=name_of)
def test_the_engine_names_no_operation(path):
    assert list(operations_named(path)) == []


def test_that_check_sees_the_names_of_operations():
    assert list(operations_named(ROOT / "minigrad/ops/losses.py"))


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=name_of)
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 420


OTHERS = sorted(p for pattern in ("*.md", "*.toml", "docs/**/*.md", "docs/**/*.py") for p in ROOT.glob(pattern))


@pytest.mark.parametrize("path", SOURCES + TESTS + OTHERS, ids=name_of)
def test_no_file_holds_a_path_of_somebodys_machine(path):
    assert re.findall(r"(?<![\w.~}/])/(?:home|root|Users|work|mnt|tmp)/[\w.]+", path.read_text()) == []
