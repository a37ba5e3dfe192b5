"""Floor 5: checkpoints: a safetensors file with tensors and one JSON text; no pickle, nothing runs on loading.

A file is written beside its place, synced, then renamed: what was there stays whole until the new one is.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from minigrad.errors import UserError, describe
from minigrad.nn.module import Module

FORMAT = "minigrad-1"  # the only key of the header's metadata: several would come in random order


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A temporary file beside ``path`` to write in, then synced and renamed. A file that was there keeps its
    permissions, and a link its target; UserError if it cannot be written."""
    where, path = f"write {path}", Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise UserError(describe(where, "a folder or a device", "the name of a file"))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            do = "choose another place or make room"
            raise UserError(describe(where, error.strerror or str(error), "a folder to write in", do)) from None
        raise


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Write ``data`` to a temporary file beside ``path``, sync it, rename it, as ``replacing`` does."""
    with replacing(path) as file:
        file.write(data)


def write(path: str | os.PathLike, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """A checkpoint of arrays by name, and ``meta``, anything that JSON can hold."""
    text = {FORMAT: json.dumps(meta)}
    write_atomically(path, to_bytes({k: np.asarray(v, order="C") for k, v in tensors.items()}, text))


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and ``meta`` of a checkpoint; UserError if the file is not one, or is damaged."""
    where = f"checkpoint {path}"
    if os.path.isdir(path):
        raise UserError(describe(where, "a folder", "a file written by minigrad"))
    try:
        with safe_open(path, framework="np") as file:
            text = file.metadata() or {}
            if FORMAT not in text:
                raise UserError(describe(where, "a safetensors file of another program", f"format {FORMAT}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            meta = json.loads(text[FORMAT])
    except FileNotFoundError:
        raise UserError(describe(where, "no such file", "a file written by minigrad")) from None
    except OSError as error:
        raise UserError(describe(where, error.strerror or str(error), "a readable file")) from None
    except UserError:
        raise
    except (SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(describe(where, f"a damaged or foreign file ({error})", "a file written by minigrad")) from None
    if not isinstance(meta, dict):
        raise UserError(describe(where, "meta that is no object", "a file written by minigrad"))
    return tensors, meta


def save(path: str | os.PathLike, model: Module) -> None:
    """The parameters of a module; those of a model class also with what it needs to be built again.

    >>> import minigrad as mg, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "linear.safetensors")
    >>> mg.save(path, mg.nn.Linear(2, 1, generator=0))
    >>> mg.load(path, into=mg.nn.Linear(2, 1))
    Linear(3 parameters)
    """
    own = getattr(model, "save", None)  # a model that can be built again from its file
    if own is not None:
        own(path)
    else:
        write(path, model.state_dict(), {"class": type(model).__name__})


MODELS: dict[str, type] = {}  # classes whose ``load(path)`` builds a model from its file


def loadable(cls: type) -> type:
    """Class decorator: ``load`` finds the class by the name in a file."""
    MODELS[cls.__name__] = cls
    return cls


def load(path: str | os.PathLike, into: Module | None = None) -> Module:
    """Parameters of a file into a module of the same structure; or the whole model, if its class knows how."""
    tensors, meta = read(path)
    if into is not None:
        into.load_state_dict(tensors)
        return into
    name = meta.get("class")
    if name not in MODELS:
        do = "import its module first (minigrad.models), or pass into=module"
        known = f"one of {', '.join(sorted(MODELS)) or 'none known'}"
        raise UserError(describe(f"load {path}", f"a {name}", known, do))
    return MODELS[name].load(path)  # type: ignore[attr-defined]
