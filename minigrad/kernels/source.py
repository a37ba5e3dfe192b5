"""Floor 2: from plain Python functions to the text of a kernel file that you can open; the same for every target.

A kernel file is self-contained: the head and the prelude of its target and dtype, the functions that the kernel calls
(with their float literals typed, so that float32 stays float32), then the kernel. It is named by the hash of its own
text, so an edited function is another file, and a stale kernel cannot be run.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import linecache
import os
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np

from minigrad.config import config


class Target(NamedTuple):
    """What the text of a kernel depends on besides the kernel.

    head:     how a file begins, with a place for its {title}
    prelude:  names of a dtype: T, and what the primitives need
    named:    what stands for an object that a function's text names: another function, the text of an import, or
              None for what is no part of a kernel
    """

    head: str
    prelude: Callable[[np.dtype], str]
    named: Callable[[Any], Any]


class _TypedLiterals(ast.NodeTransformer):
    """``2.0`` becomes ``T(2.0)``: a float literal has the dtype of the kernel. Annotations go."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, float):
            return ast.Call(ast.Name("T", ast.Load()), [node], [])
        return node


@cache
def parse(function: types.FunctionType) -> tuple[str, frozenset[str]]:
    """Source of a function with typed literals, and the names that it reads."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = frozenset(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    return ast.unparse(_TypedLiterals().visit(tree)), names


def called_by(target: Target, function: types.FunctionType) -> list[Any]:
    """The functions and imports that a function's text names."""
    names = sorted(parse(function)[1] - {function.__name__})
    found = [target.named(function.__globals__[name]) for name in names if name in function.__globals__]
    return [x for x in found if x is not None]


def _collect(target: Target, part: Any, seen: dict[str, str], imports: set[str]) -> None:
    """Texts of a function and of those that it calls, callees first."""
    if not isinstance(part, types.FunctionType):
        imports |= {part} if part else set()
        return
    text, _ = parse(part)
    if seen.get(part.__name__, text) != text:
        raise ValueError(f"[kernel] two functions are called '{part.__name__}'; rename one")
    if part.__name__ in seen:
        return
    for callee in called_by(target, part):
        _collect(target, callee, seen, imports)
    seen[part.__name__] = text


def emit(target: Target, title: str, text: str, functions: Iterable[Any], dtype: np.dtype) -> str:
    """The text of a kernel file: prelude, the functions needed, then ``text``."""
    seen: dict[str, str] = {}
    imports: set[str] = set()
    for f in functions:
        _collect(target, f if isinstance(f, str) else target.named(f), seen, imports)
    parts = [
        target.head.format(title=title),
        *(f"{line}\n" for line in sorted(imports)),
        target.prelude(np.dtype(dtype)),
    ]
    parts += [f"\n@inline\n{body}\n" for body in seen.values()]
    return "".join(parts) + "\n" + text


def as_kernel(function: types.FunctionType, constants: dict[str, int]) -> str:
    """The text of a function as the kernel ``run``, in which ``constants`` are no parameters but known.

    A wrapper around the function would cost it what is known of its arrays, that they do not overlap: it would be
    optimised before it is inlined (three times slower where measured)."""
    tree = ast.parse(parse(function)[0])
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.name, definition.decorator_list = "run", [ast.Name("kernel", ast.Load())]
    definition.args.args = [a for a in definition.args.args if a.arg not in constants]
    return "".join(f"{name} = {value}\n" for name, value in constants.items()) + "\n" + ast.unparse(tree) + "\n"


_LOADING = threading.RLock()  # a module is known by its name before its kernels are compiled


def load(name: str, text: str) -> types.ModuleType:
    """Import ``text`` from a file of its own, named by its hash."""
    with _LOADING:
        return _load(name, text)


def _load(name: str, text: str) -> types.ModuleType:
    stem = f"{name}_{hashlib.sha256((text + numba.__version__).encode()).hexdigest()[:16]}"
    if stem in sys.modules:
        return sys.modules[stem]
    path = write(stem, text)
    if path is None:
        filename = f"<{stem}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
        module = types.ModuleType(stem)
        module.__file__ = filename
        exec(compile(text, filename, "exec"), module.__dict__)
    else:
        spec = importlib.util.spec_from_file_location(stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[stem] = module
        spec.loader.exec_module(module)
    sys.modules[stem] = module
    return module


def write(stem: str, text: str) -> Path | None:
    """The kernel's file, written if it is not there; None where nothing can be written."""
    if not config.cache_dir:
        return None
    path = Path(config.cache_dir) / f"{stem}.py"
    try:
        if path.exists() and path.read_text() == text:
            return path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(text)
        temporary.replace(path)
        return path
    except OSError:
        return None
