"""Floor 7: the training loop. It knows parameters, batches and a budget; what is learned, the model knows."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from minigrad.engine import Tensor
from minigrad.engine.tree import leaves, rebuild, tree_map
from minigrad.errors import MinigradError, UserError, describe
from minigrad.models.settings import Settings, real, whole
from minigrad.optim import Adam, clip_grad_norm_, cosine, warmup

BUDGETS = ("minutes", "epochs", "steps")


@dataclass(frozen=True)
class Recipe(Settings):
    """How a model is trained; the budget is one of minutes, epochs and steps.

    The learning rate rises for ``warmup`` steps and falls to 0 along a cosine over the budget.
    """

    batch: int = whole(32, 1, 1_000_000, "streams of text read side by side (B)")
    window: int = whole(64, 1, 1_000_000, "characters between two updates (T)")
    reset: int = whole(16, 0, 10**9, "windows after which a stream begins with an empty state; 0: once an epoch")
    lr: float = real(3e-3, 0, math.inf, "highest learning rate of Adam")
    warmup: int = whole(50, 0, 10**9, "steps in which the learning rate rises")
    clip: float = real(1.0, 0, math.inf, "largest norm of the gradient")
    seed: int = whole(1, 0, 2**63 - 1, "one seed repeats one run")
    minutes: float | None = real(None, 0, math.inf, "budget: time")
    epochs: int | None = whole(None, 1, 10**9, "budget: passes over the text")
    steps: int | None = whole(None, 1, 10**12, "budget: updates")

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(f"--{name}" for name in given) or "no budget"
            raise UserError(describe("budget", got, "one of --minutes, --epochs and --steps"))

    def budget(self) -> str:
        """For people: ``2 minutes``."""
        return next(f"{getattr(self, name):g} {name}" for name in BUDGETS if getattr(self, name) is not None)


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
    """Gradient steps until the budget is used up: loss, backward, clip, Adam.

    model:    a module with a ``generator`` (its only source of chance), ``loss(*batch, carry) -> (loss, carry)`` and
              ``reset(carry, fresh) -> carry``
    batches:  see Batches: a function of the step's number alone
    carry:    what is carried into the first batch; from step to step it is carried on, detached
    recipe:   with a budget of steps or epochs, a run is repeatable to the last bit; ``state`` and ``restore`` cut it
              anywhere without changing that

    >>> from minigrad.models import CharVocabulary, LanguageConfig, LanguageModel
    >>> from minigrad.models.batches import Windows
    >>> text = "to be or not to be " * 9
    >>> model = LanguageModel(LanguageConfig(hidden=8), CharVocabulary.of(text), generator=0)
    >>> batches = Windows(model.vocabulary.encode(text), batch=2, window=5, reset=4)
    >>> trainer = Trainer(model, batches, model.initial_state(2), Recipe(batch=2, window=5, reset=4, steps=3))
    >>> [step.number for step in trainer]
    [1, 2, 3]
    """

    def __init__(self, model: Any, batches: Batches, carry: Any, recipe: Recipe):
        self.model, self.batches, self.carry, self.recipe = model, batches, carry, recipe
        self.optimizer = Adam(model.parameters(), lr=recipe.lr)
        self.number = 0
        self.total = recipe.steps or (recipe.epochs or 0) * batches.per_epoch  # 0: the budget is time
        self._factor = warmup(recipe.warmup)
        self._decay = cosine(1.0)
        self._before, self._began = 0.0, math.nan

    @property
    def seconds(self) -> float:
        """Time since training began, without that between a checkpoint and its resumption."""
        return self._before + (0.0 if math.isnan(self._began) else time.monotonic() - self._began)

    @property
    def progress(self) -> float:
        """The share of the budget that is used, from 0 to 1."""
        return min(1.0, self.number / self.total if self.total else self.seconds / (60 * (self.recipe.minutes or 0)))

    def __iter__(self) -> Iterator[Step]:
        """Step by step; what the caller does in between counts as time."""
        self._began = time.monotonic()
        while (progress := self.progress) < 1:
            yield self.step(progress)

    def step(self, progress: float) -> Step:
        batch, fresh = self.batches(self.number)
        loss, carry = self.model.loss(*batch, self.model.reset(self.carry, fresh))
        self.optimizer.zero_grad()
        loss.backward()
        value, norm = loss.item(), clip_grad_norm_(self.optimizer.parameters, self.recipe.clip)
        if not (math.isfinite(value) and math.isfinite(norm)):
            got = f"loss {value:g} with a gradient of norm {norm:g} in step {self.number + 1:,}"
            raise Diverged(describe("training", got, "finite numbers", "try a smaller --lr"))
        self.number += 1
        self.optimizer.lr = self.recipe.lr * self._factor(self.number) * self._decay(progress)
        self.optimizer.step()
        self.carry = tree_map(lambda s: s.detach(), carry)
        return Step(self.number, value, norm, self.optimizer.lr)

    # ---------------------------------------------------------------- to stop and go on

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays, and facts for JSON: all that the next step depends on, but for the parameters and the data."""
        arrays = {f"optimizer.{name}": a for name, a in self.optimizer.state_dict().items()}
        arrays |= {f"carry.{i}": s.numpy() for i, s in enumerate(leaves(self.carry))}
        facts = {
            "recipe": self.recipe.to_json(),
            "step": self.number,
            "generator": self.model.generator.bit_generator.state,
        }
        return arrays, facts if self.total else {**facts, "seconds": self.seconds}

    def restore(self, where: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Go on from what ``state`` gave; UserError if a file holds anything else."""
        step, seconds = facts.get("step"), facts.get("seconds", 0.0)
        carry = [arrays.get(f"carry.{i}", np.zeros(0)) for i in range(len(leaves(self.carry)))]
        good = type(step) is int and step >= 0 and type(seconds) in (int, float) and 0 <= seconds < math.inf
        if not good or any(a.shape != s.shape or a.dtype != s.dtype for a, s in zip(carry, leaves(self.carry))):
            raise UserError(describe(where, "a damaged state of training", "what lm train wrote"))
        try:
            prefix = "optimizer."
            own = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            self.optimizer.load_state_dict(own)
            self.model.generator.bit_generator.state = facts.get("generator")
        except (MinigradError, TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise UserError(describe(where, f"a damaged state of training ({error})", "what lm train wrote")) from None
        self.carry = rebuild(self.carry, [Tensor(np.array(a)) for a in carry])
        self.number, self._before = step, float(seconds)
