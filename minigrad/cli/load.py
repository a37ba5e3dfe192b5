"""Floor 6: a function named at the command line, as FILE.py:NAME or package.module:NAME."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

from minigrad.errors import UserError, describe


def function(command: str, where: str, expected: str) -> Callable:
    """UserError says what ``where`` should have been; ``expected`` describes the function."""
    home, _, name = where.rpartition(":")
    if home.endswith(".py") and not Path(home).is_file():
        raise UserError(describe(command, f"'{home}', which is no file here", expected))
    if not home or not name:
        raise UserError(describe(command, where, expected))
    try:
        module = _file(home) if home.endswith(".py") else _module(home)
    except Exception as error:
        raise UserError(f"[{home}] {type(error).__name__}: {error}") from None
    try:
        found = attrgetter(name)(module)
    except AttributeError:
        found = None
    if not callable(found):
        raise UserError(describe(home, f"no function '{name}'", expected))
    return found


def _file(path: str):  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _module(name: str):  # type: ignore[no-untyped-def]
    """Imported as ``python -m`` would, from the current folder too."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)
