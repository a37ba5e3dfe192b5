"""Floor 7: the training loop. It knows parameters, batches and a budget; what is learned, the model knows."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np

from minigrad.engine import Tensor
from minigrad.engine.tree import leaves, rebuild, tree_map
from minigrad.errors import MinigradError, UserError, describe
from minigrad.models.recipe import OPTIMIZERS, Recipe
from minigrad.optim import Average, clip_grad_norm_, clip_grad_value_


class Batches(Protocol):
    """``batches(step)`` is a batch, and a mask of its rows that begin anew: nothing is carried into those."""

    per_epoch: int

    def __call__(self, step: int) -> tuple[tuple[Any, ...], np.ndarray]: ...


class Step(NamedTuple):
    """What one step was: its number (from 1), the loss, the norm of the gradient, the learning rate."""

    number: int
    loss: float
    norm: float
    rate: float


class Diverged(UserError):
    """The loss or the gradient is no longer a number."""


class Trainer:
    """Gradient steps until the budget is used up: loss, backward, clip, the optimiser's step.

    model:    a module with a ``generator`` (its only source of chance), ``loss(*batch, carry) -> (loss, carry)`` and
              ``reset(carry, fresh) -> carry``
    batches:  see Batches: a function of the step's number alone
    carry:    what is carried into the first batch; from step to step it is carried on, detached
    recipe:   with a budget of steps or epochs, a run is repeatable to the last bit; ``state`` and ``restore`` cut it
              anywhere without changing that

    >>> from minigrad.models import CharVocabulary, LanguageConfig, LanguageModel, WindowRecipe
    >>> from minigrad.models.batches import Windows
    >>> text = "to be or not to be " * 9
    >>> model = LanguageModel(LanguageConfig(hidden=8), CharVocabulary.of(text), generator=0)
    >>> batches = Windows(model.vocabulary.encode(text), batch=2, window=5, reset=4)
    >>> recipe = WindowRecipe(batch=2, window=5, reset=4, steps=3)
    >>> trainer = Trainer(model, batches, model.initial_state(2), recipe)
    >>> [step.number for step in trainer]
    [1, 2, 3]
    """

    def __init__(self, model: Any, batches: Batches, carry: Any, recipe: Recipe):
        self.model, self.batches, self.carry, self.recipe = model, batches, carry, recipe
        self.optimizer = OPTIMIZERS[recipe.optimizer](model.parameters(), recipe.lr, recipe.weight_decay)
        self.number = 0
        self.total = recipe.steps or (recipe.epochs or 0) * batches.per_epoch  # 0: the budget is time
        self.average = Average(self.optimizer.parameters) if recipe.average == "asgd" else None
        self.validations: list[float] = []
        self.best: list[np.ndarray] = []  # parameters of the best validation, where patience asks for them
        self.last: list[np.ndarray] = []  # of the last step, where others took their places at the end
        self._before, self._began = 0.0, math.nan

    @property
    def seconds(self) -> float:
        """Time since training began, without pauses and that between a checkpoint and its resumption."""
        return self._before + (0.0 if math.isnan(self._began) else time.monotonic() - self._began)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside, between two steps, is not counted as time."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._before -= time.monotonic() - began

    @property
    def progress(self) -> float:
        """The share of the budget that is used, from 0 to 1; 1 as well once patience is."""
        if self.recipe.patience and len(self.validations) - best(self.validations) >= self.recipe.patience:
            return 1.0
        return min(1.0, self.number / self.total if self.total else self.seconds / (60 * (self.recipe.minutes or 0)))

    def __iter__(self) -> Iterator[Step]:
        """Step by step; what the caller does in between counts as time, but for ``paused``."""
        self._began = time.monotonic()
        while (progress := self.progress) < 1:
            yield self.step(progress)

    def step(self, progress: float) -> Step:
        recipe, parameters = self.recipe, self.optimizer.parameters
        batch, fresh = self.batches(self.number)
        loss, carry = self.model.loss(*batch, self.model.reset(self.carry, fresh))
        self.optimizer.zero_grad()
        of_loss, of_rate = recipe.factors(len(batch[0]))
        (loss if of_loss == 1 else loss * of_loss).backward()
        value = loss.item()
        norm = clip_grad_norm_(parameters, recipe.clip if recipe.clip_by == "norm" else math.inf)
        if not (math.isfinite(value) and math.isfinite(norm)):
            got = f"loss {value:g} with a gradient of norm {norm:g} in step {self.number + 1:,}"
            raise Diverged(describe("training", got, "finite numbers", "try a smaller --lr"))
        if recipe.clip_by == "value":
            clip_grad_value_(parameters, recipe.clip)
        epoch = self.number / self.batches.per_epoch
        self.number += 1
        self.optimizer.lr = recipe.rate(self.number, epoch, progress) * of_rate
        self.optimizer.step()
        if self.average:
            self.average.update()
        self.carry = tree_map(lambda s: s.detach(), carry)
        return Step(self.number, value, norm, self.optimizer.lr)

    # ---------------------------------------------------------------- what validations decide

    def averaged(self) -> AbstractContextManager[None]:
        """The model with the mean of its parameters, where the recipe asks for one: what is to be validated."""
        return self.average.applied() if self.average else nullcontext()

    def validated(self, loss: float) -> None:
        """Hear of a validation: the best parameters are kept, and nt-asgd may begin to average (Merity et al. 2018)."""
        recipe = self.recipe
        if not recipe.judged:
            return
        before = self.validations[: -recipe.stall]
        self.validations.append(loss)
        if recipe.patience and best(self.validations) == len(self.validations):
            with self.averaged():
                self.best = [p.numpy().copy() for p in self.optimizer.parameters]
        if recipe.average == "nt-asgd" and self.average is None and before and loss > min(before):
            self.average = Average(self.optimizer.parameters)

    def finish(self) -> bool:
        """The best parameters that were seen, or their mean, take the places of the last ones, if asked for."""
        if self.best or self.average:
            self.last = [p.numpy().copy() for p in self.optimizer.parameters]
        if self.best:
            for p, data in zip(self.optimizer.parameters, self.best):
                p.data = p.beside(data.copy()).data
        elif self.average:
            self.average.apply()
        return bool(self.best or self.average)

    def new_budget(self) -> None:
        """Go on although patience is used up: it begins anew."""
        if self.recipe.patience and self.progress == 1 and (not self.total or self.number < self.total):
            self.validations = []

    # ---------------------------------------------------------------- to stop and go on

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays, and facts for JSON: all that the next step depends on, but for the parameters and the data."""
        arrays = {f"optimizer.{name}": a for name, a in self.optimizer.state_dict().items()}
        arrays |= {f"carry.{i}": s.numpy() for i, s in enumerate(leaves(self.carry))}
        arrays |= {f"average.{i}": a for i, a in enumerate(self.average.means if self.average else [])}
        arrays |= {f"best.{i}": a for i, a in enumerate(self.best)}
        arrays |= {f"last.{i}": a for i, a in enumerate(self.last)}
        facts = {
            "recipe": self.recipe.to_json(),
            "step": self.number,
            "generator": self.model.generator.bit_generator.state,
            "validations": self.validations,
            "averaged": self.average.count if self.average else None,
        }
        return arrays, facts if self.total else {**facts, "seconds": self.seconds}

    def restore(self, where: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Go on from what ``state`` gave; UserError if a file holds anything else."""
        step, seconds, count = facts.get("step"), facts.get("seconds", 0.0), facts.get("averaged")
        validations = facts.get("validations")
        carry = [arrays.get(f"carry.{i}", np.zeros(0)) for i in range(len(leaves(self.carry)))]
        parameters = self.optimizer.parameters
        copies = {name: [np.array(arrays.get(f"{name}.{i}", np.zeros(0))) for i in range(len(parameters))]
                  for name in ("average", "best", "last") if f"{name}.0" in arrays}  # fmt: skip
        good = type(step) is int and step >= 0 and type(seconds) in (int, float) and 0 <= seconds < math.inf
        good &= count is None or (type(count) is int and count >= 0 and "average" in copies)
        good &= isinstance(validations, list) and all(type(v) is float for v in validations)
        good &= all(alike(copy, parameters) for copy in copies.values())
        if not good or not alike(carry, leaves(self.carry)):
            raise UserError(describe(where, "a damaged state of training", "what training wrote"))
        try:
            prefix = "optimizer."
            own = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            self.optimizer.load_state_dict(own)
            self.model.generator.bit_generator.state = facts.get("generator")
        except (MinigradError, TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise UserError(describe(where, f"a damaged state of training ({error})", "what training wrote")) from None
        self.carry = rebuild(self.carry, [s.beside(np.array(a)) for s, a in zip(leaves(self.carry), carry)])
        self.number, self._before, self.validations = step, float(seconds), validations
        self.best = copies.get("best", [])
        for p, data in zip(parameters, copies.get("last", [])):
            p.data = p.beside(data).data
        self.average = None
        if count is not None:
            self.average = Average(parameters)
            self.average.count, self.average.means = count, copies["average"]


def best(validations: list[float]) -> int:
    """The number, from 1, of the first smallest one; 0 if there is none."""
    return int(np.argmin(validations)) + 1 if validations else 0


def alike(arrays: list[np.ndarray], tensors: list[Tensor]) -> bool:
    return all(a.shape == t.shape and a.dtype == t.dtype for a, t in zip(arrays, tensors, strict=True))
