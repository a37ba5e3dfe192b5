"""Floor 7: how a model is trained: optimiser, learning rate, clipping, averaging, budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from minigrad.engine import Tensor
from minigrad.errors import UserError, describe
from minigrad.models.settings import Settings, choice, flag, real, whole
from minigrad.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, cosine, warmup

BUDGETS = ("minutes", "epochs", "steps")

OPTIMIZERS: dict[str, Callable[[list[Tensor], float, float], Optimizer]] = {
    "adam": lambda parameters, lr, decay: Adam(parameters, lr, weight_decay=decay),
    "adamw": lambda parameters, lr, decay: AdamW(parameters, lr, weight_decay=decay),
    "sgd": lambda parameters, lr, decay: SGD(parameters, lr, weight_decay=decay),
    "rmsprop": lambda parameters, lr, decay: RMSprop(parameters, lr, alpha=0.95, weight_decay=decay),
    "adagrad": lambda parameters, lr, decay: Adagrad(parameters, lr, weight_decay=decay),
}


@dataclass(frozen=True)
class Recipe(Settings):
    """How a model is trained; the budget is one of minutes, epochs and steps.

    The learning rate rises for ``warmup`` steps. Then it falls to 0 along a cosine over the budget, or stays for
    ``hold`` epochs and shrinks by ``decay`` in each later one.
    """

    batch: int = whole(32, 1, 1_000_000, "examples of one update (B)")
    optimizer: str = choice("adam", tuple(OPTIMIZERS), "what makes a step of a gradient")
    lr: float = real(3e-3, 0, math.inf, "highest learning rate")
    warmup: int = whole(50, 0, 10**9, "steps in which the learning rate rises")
    schedule: str = choice("cosine", ("cosine", "hold"), "of the rate: to 0 over the budget, or see --hold")
    hold: int = whole(1, 0, 10**9, "epochs at the full rate (schedule hold)")
    decay: float = real(1.0, 0, math.inf, "factor of the rate in each epoch after those")
    weight_decay: float = real(0.0, 0, math.inf, "pull of the parameters towards 0", closed=True)
    clip: float = real(1.0, 0, math.inf, "largest norm, or largest value, of the gradient")
    clip_by: str = choice("norm", ("norm", "value"), "shorten the whole gradient, or cut off each number")
    average: str = choice("none", ("none", "asgd", "nt-asgd"), "mean of the parameters: all along, or once it stalls")
    stall: int = whole(5, 1, 10**9, "validations without a better one after which nt-asgd averages")
    patience: int = whole(0, 0, 10**9, "validations without a better one after which training ends; 0: never")
    seed: int = whole(1, 0, 2**63 - 1, "one seed repeats one run")
    minutes: float | None = real(None, 0, math.inf, "budget: time of training; validations add about a fifth")
    epochs: int | None = whole(None, 1, 10**9, "budget: passes over all examples")
    steps: int | None = whole(None, 1, 10**12, "budget: updates")

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(f"--{name}" for name in given) or "no budget"
            raise UserError(describe("budget", got, "one of --minutes, --epochs and --steps"))

    @property
    def judged(self) -> bool:
        """Whether validations decide about the training."""
        return self.patience > 0 or self.average == "nt-asgd"

    def budget(self) -> str:
        """For people: ``2 minutes``."""
        return next(f"{getattr(self, name):g} {name}" for name in BUDGETS if getattr(self, name) is not None)

    def rate(self, step: int, epoch: float, progress: float) -> float:
        """The learning rate of a step 1, 2, ..., after so many epochs and such a share of the budget.

        >>> recipe = Recipe(lr=1.0, warmup=0, schedule="hold", hold=4, decay=0.5, epochs=13)
        >>> [recipe.rate(1, epoch, 0.0) for epoch in (0, 3.9, 4, 5)]
        [1.0, 1.0, 0.5, 0.25]
        """
        later = cosine(1.0)(progress) if self.schedule == "cosine" else self.decay ** max(0, int(epoch) + 1 - self.hold)
        return self.lr * warmup(self.warmup)(step) * later

    def factors(self, steps: int) -> tuple[float, float]:
        """Of the loss and of the learning rate, for a batch of so many steps."""
        return 1.0, 1.0


@dataclass(frozen=True)
class WindowRecipe(Recipe):
    """How a model of a text is trained, whose examples are windows of streams that are read side by side.

    >>> WindowRecipe(window=10, reduction="sum", jitter=True, steps=1).factors(5)
    (5.0, 0.5)
    """

    batch: int = whole(32, 1, 1_000_000, "streams of text read side by side (B)")
    window: int = whole(64, 1, 1_000_000, "symbols between two updates (T)")
    jitter: bool = flag("vary the window: mostly T, sometimes T/2, with noise of 5; the rate follows")
    reset: int = whole(16, 0, 10**9, "windows after which a stream begins with an empty state; 0: once an epoch")
    reduction: str = choice("mean", ("mean", "sum"), "of the loss over the T steps of a window")
    epochs: int | None = whole(None, 1, 10**9, "budget: passes over the text")

    def factors(self, steps: int) -> tuple[float, float]:
        return float(steps) if self.reduction == "sum" else 1.0, steps / self.window if self.jitter else 1.0
