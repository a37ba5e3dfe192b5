"""Floor 7: a model's file: its parameters, what it is made of, and the state of its training."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from minigrad import nn
from minigrad.errors import MinigradError, UserError, describe
from minigrad.nn.module import Module

TRAINING = "training."  # prefix of the tensors of a checkpoint that only a resumed training needs

Training = tuple[dict[str, np.ndarray], dict[str, Any]]


def write_model(path: str | os.PathLike, model: Module, made_of: dict[str, Any], training: Training | None) -> None:
    """The model as one file; with ``training``, arrays and facts from which a training goes on."""
    tensors = model.state_dict()
    if not all(np.isfinite(a).all() for a in tensors.values()):
        raise UserError(describe(f"save {path}", "parameters that are NaN or Inf", "finite ones"))
    arrays, facts = training or ({}, None)
    meta = {"class": type(model).__name__, **made_of, "training": facts}
    nn.write(path, {**tensors, **{TRAINING + name: a for name, a in arrays.items()}}, meta)


def read_model(path: str | os.PathLike, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any], Training | None]:
    """Parameters, what the model is made of, and what was given as ``training``; UserError if there is no ``kind``."""
    where = f"checkpoint {path}"
    tensors, meta = nn.read(path)
    if meta.get("class") != kind:
        raise UserError(describe(where, f"a model of class {meta.get('class')!r}", f"a {kind}"))
    if bad := [name for name, a in tensors.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]:
        raise UserError(describe(where, f"{bad[0]} with NaN or Inf", "finite numbers"))
    parameters = {name: a for name, a in tensors.items() if not name.startswith(TRAINING)}
    arrays = {name.removeprefix(TRAINING): a for name, a in tensors.items() if name.startswith(TRAINING)}
    facts = meta.get("training")
    return parameters, meta, (arrays, facts) if isinstance(facts, dict) else None


def check_sizes(where: str, expected: dict[str, tuple[int, ...]], parameters: dict[str, np.ndarray]) -> None:
    """That a configuration fits the file's own matrices, before anything of its size is made."""
    for name, shape in expected.items():
        found = parameters[name].shape if name in parameters else "none"
        if found != shape:
            got = f"{name} {found} under a configuration that means {shape}"
            raise UserError(describe(where, got, "equal sizes", "the file is damaged"))


def fill(where: str, model: Module, parameters: dict[str, np.ndarray]) -> None:
    """Put a file's parameters into a model."""
    try:
        model.load_state_dict(parameters)
    except MinigradError as error:
        raise UserError(f"[{where}] {error}") from None
