"""Floor 7: two tasks that ask for memory and nothing else, as generators, recipes and the command ``minigrad task``.

adding:  two of T numbers are marked; what is their sum? (Hochreiter and Schmidhuber 1997; numbers and marks as in Le,
         Jaitly and Hinton 2015). To answer 1 always has the squared error 1/6.
copy:    ten symbols, T blanks, a sign, and then the ten again (Hochreiter and Schmidhuber 1997; sizes as in Arjovsky,
         Shah and Bengio 2016). To guess them costs 10 ln 8 / (T + 20) nats a step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import click
import numpy as np

from minigrad import nn, ops
from minigrad.engine import Tensor, no_grad
from minigrad.engine.tree import leaves
from minigrad.errors import UserError, describe
from minigrad.models.progress import Bar, clock
from minigrad.models.settings import Settings, choice, real, whole
from minigrad.models.training import Recipe, Trainer
from minigrad.nn.module import Seed, as_generator

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
SYMBOLS, SPAN = 8, 10  # of the copy task; then come the blank and the sign
BLANK, SIGN = SYMBOLS, SYMBOLS + 1


def adding(length: int, batch: int, seed: Seed = None) -> tuple[np.ndarray, np.ndarray]:
    """x (T, B, 2): numbers from U(0, 1), and marks, 1 at one step of each half, else 0; y (B, 1): the marked sum.

    >>> x, y = adding(6, 2, seed=0)
    >>> bool(np.allclose((x[..., 0] * x[..., 1]).sum(0), y[:, 0])), x[..., 1].sum(0).tolist()
    (True, [2.0, 2.0])
    """
    rng, rows = as_generator(seed), np.arange(batch)
    numbers = rng.random((length, batch), np.float32)
    marks = np.zeros((length, batch), np.float32)
    first, second = rng.integers(0, length // 2, batch), rng.integers(length // 2, length, batch)
    marks[first, rows] = marks[second, rows] = 1
    return np.stack([numbers, marks], -1), (numbers[first, rows] + numbers[second, rows])[:, None]


def copying(length: int, batch: int, seed: Seed = None) -> tuple[np.ndarray, np.ndarray]:
    """x, y (T + 20, B): ten symbols 0 .. 7, T - 1 blanks, a sign and ten blanks; blanks, and the ten symbols again.

    >>> x, y = copying(3, 1, seed=0)
    >>> "".join(map(str, x[:, 0])), "".join(map(str, y[:, 0]))
    ('6542200010889888888888', '8888888888886542200010')
    """
    symbols = as_generator(seed).integers(0, SYMBOLS, (SPAN, batch))
    x, y = (np.full((length + 2 * SPAN, batch), BLANK) for _ in range(2))
    x[:SPAN], x[SPAN + length - 1], y[-SPAN:] = symbols, SIGN, symbols
    return x, y


@dataclass(frozen=True)
class TaskConfig(Settings):
    """A task, a cell and how it is trained.

    The gates' biases say how long a cell remembers before it has learned anything (Tallec and Ollivier 2018, "chrono"):
    forgetting times from 1 to T - 1 steps, b_f = ln U(1, T - 1) = -b_i of an LSTM, b_u = -ln U(1, T - 1) of a GRU.
    """

    cell: str = choice("lstm", tuple(CELLS), "the recurrent cell")
    length: int = whole(200, 2, 1_000_000, "steps (T)")
    hidden: int = whole(64, 1, 1_000_000, "units (H)")
    memory: str = choice("chrono", ("chrono", "one", "drawn"), "gate biases: for up to T steps; a forget bias of 1; none")
    batch: int = whole(50, 1, 1_000_000, "sequences a step (B)")
    lr: float = real(5e-3, 0, math.inf, "highest learning rate of Adam")
    warmup: int = whole(50, 0, 10**9, "steps in which the learning rate rises")
    clip: float = real(1.0, 0, math.inf, "largest norm of the gradient")
    seed: int = whole(1, 0, 2**63 - 1, "one seed repeats one run")
    minutes: float | None = real(None, 0, math.inf, "budget: time")
    steps: int | None = whole(None, 1, 10**12, "budget: updates")

    def recipe(self) -> Recipe:
        names = ("batch", "lr", "warmup", "clip", "seed", "minutes", "steps")
        return Recipe(**{name: getattr(self, name) for name in names})


class Task(NamedTuple):
    """A generator, and what stands at both ends of a model of it."""

    draw: Callable[[int, int, Seed], tuple[np.ndarray, np.ndarray]]
    baseline: Callable[[int], float]
    solved: float  # this share of the baseline counts as solved
    unit: str
    steps: int  # of a training, if nobody says


TASKS = {
    "adding": Task(adding, lambda T: 1 / 6, 0.006, "mean squared error", 2000),
    "copy": Task(copying, lambda T: SPAN * math.log(SYMBOLS) / (T + 2 * SPAN), 0.1, "nats a step", 2000),
}


class TaskModel(nn.Module):
    """A recurrent layer and a linear one: adding y = W h_T + b; copying p(y_t) = softmax(W h_t + b).

    >>> model = TaskModel("adding", TaskConfig(length=6, hidden=4), generator=0)
    >>> x, y = adding(6, 3, seed=0)
    >>> model.loss(x, y)[0].shape
    ()
    """

    def __init__(self, task: str, config: TaskConfig, *, generator: Seed = None):
        self.task, self.generator = task, as_generator(generator)
        width, out = (2, 1) if task == "adding" else (SYMBOLS + 2, SYMBOLS + 2)
        self.recurrent = CELLS[config.cell](width, config.hidden, generator=self.generator)
        self.output = nn.Linear(config.hidden, out, generator=self.generator)
        remember(self.recurrent, config.memory, config.length, self.generator)

    def loss(self, x: np.ndarray, y: np.ndarray, carry: Any = ()) -> tuple[Tensor, Any]:
        """The error of a batch, and the state to carry on: none, each batch begins anew."""
        if self.task == "adding":
            _, state = self.recurrent(x)
            return ops.mse(self.output(leaves(state)[0][0]), y), carry
        hidden, _ = self.recurrent(np.eye(SYMBOLS + 2, dtype=np.float32)[x])
        return ops.linear_cross_entropy(hidden, self.output.weight, y, self.output.bias), carry

    def reset(self, carry: Any, fresh: np.ndarray) -> Any:
        return carry


def remember(layer: nn.Module, memory: str, length: int, rng: np.random.Generator) -> None:
    """Set the gate biases of an LSTM or a GRU as TaskConfig says; a plain RNN has none."""
    if memory == "drawn" or isinstance(layer, nn.RNN):
        return
    H = layer.hidden_size
    if memory == "chrono":
        long = np.log(rng.uniform(1, max(length - 1, 2), H)).astype(np.float32)  # (H,)
    else:
        long = np.ones(H, np.float32)
    if isinstance(layer, nn.LSTM):  # rows i, f, g, o
        layer.bias_l0.data[H : 2 * H] = long
        if memory == "chrono":
            layer.bias_l0.data[:H] = -long
    else:  # rows r, u, n; u weighs what is new
        layer.bias_l0.data[H : 2 * H] = -long
