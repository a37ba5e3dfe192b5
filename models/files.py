"""Floor 7: a model's file: its parameters, what it is made of, and the state of its training."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np

from minigrad import nn
from minigrad.errors import MinigradError, UserError, describe
from minigrad.nn.module import Module

TRAINING = "training."  # prefix of the tensors of a checkpoint that only a resumed training needs

Training = tuple[dict[str, np.ndarray], dict[str, Any]]


class Saved(Module):
    """A model with a file: a subclass says what it is made of, and makes one of that."""

    def made_of(self) -> dict[str, Any]:
        """All but the parameters, for JSON."""
        raise NotImplementedError

    @classmethod
    def remade(cls, where: str, meta: dict[str, Any], parameters: dict[str, np.ndarray]) -> Self:
        """A model of what ``made_of`` gave, for these parameters; UserError if they do not fit."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike, training: Training | None = None) -> None:
        """The model as one file; with ``training``, arrays and facts from which a training goes on."""
        tensors = self.state_dict()
        if not all(np.isfinite(a).all() for a in tensors.values()):
            raise UserError(describe(f"save {path}", "parameters that are NaN or Inf", "finite ones"))
        arrays, facts = training or ({}, None)
        meta = {"class": type(self).__name__, **self.made_of(), "training": facts}
        nn.write(path, {**tensors, **{TRAINING + name: a for name, a in arrays.items()}}, meta)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """The model in a file; UserError if it holds none, or is damaged."""
        return cls.load_for_training(path)[0]

    @classmethod
    def load_for_training(cls, path: str | os.PathLike) -> tuple[Self, Training | None]:
        """The model, and what was given to ``save`` as ``training``."""
        where, kind = f"checkpoint {path}", cls.__name__
        tensors, meta = nn.read(path)
        if meta.get("class") != kind:
            raise UserError(describe(where, f"a model of class {meta.get('class')!r}", f"a {kind}"))
        if bad := [name for name, a in tensors.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]:
            raise UserError(describe(where, f"{bad[0]} with NaN or Inf", "finite numbers"))
        parameters = {name: a for name, a in tensors.items() if not name.startswith(TRAINING)}
        model = cls.remade(where, meta, parameters)
        try:
            model.load_state_dict(parameters)
        except MinigradError as error:
            raise UserError(f"[{where}] {error}") from None
        arrays = {name.removeprefix(TRAINING): a for name, a in tensors.items() if name.startswith(TRAINING)}
        facts = meta.get("training")
        return model, (arrays, facts) if isinstance(facts, dict) else None


def check_sizes(where: str, expected: dict[str, tuple[int, ...]], parameters: dict[str, np.ndarray]) -> None:
    """That a configuration fits the file's own matrices, before anything of its size is made."""
    for name, shape in expected.items():
        found = parameters[name].shape if name in parameters else "none"
        if found != shape:
            got = f"{name} {found} under a configuration that means {shape}"
            raise UserError(describe(where, got, "equal sizes", "the file is damaged"))
