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
from dataclasses import dataclass
from typing import Any, NamedTuple

import click
import numpy as np

from minigrad import nn, ops
from minigrad.engine import Tensor, no_grad
from minigrad.engine.tree import leaves
from minigrad.models.progress import Bar, clock
from minigrad.models.recipe import Recipe
from minigrad.models.settings import Settings, choice, real, whole
from minigrad.models.training import Trainer
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
    ('65422000168898888888888', '88888888888886542200016')
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
    memory: str = choice(
        "chrono", ("chrono", "one", "drawn"), "gate biases: for up to T steps; a forget bias of 1; none"
    )
    batch: int = whole(50, 1, 1_000_000, "sequences a step (B)")
    lr: float = real(1e-2, 0, math.inf, "highest learning rate of Adam")
    warmup: int = whole(50, 0, 10**9, "steps in which the learning rate rises")
    clip: float = real(1.0, 0, math.inf, "largest norm of the gradient")
    seed: int = whole(1, 0, 2**63 - 1, "one seed repeats one run")
    minutes: float | None = real(None, 0, math.inf, "budget: time")
    steps: int | None = whole(None, 1, 10**12, "budget: updates")

    def recipe(self) -> Recipe:
        names = ("batch", "lr", "warmup", "clip", "seed", "minutes", "steps")
        return Recipe(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class CopyConfig(TaskConfig):
    """What suits the copy task."""

    length: int = whole(20, 2, 1_000_000, "blanks (T)")
    hidden: int = whole(128, 1, 1_000_000, "units (H)")
    batch: int = whole(32, 1, 1_000_000, "sequences a step (B)")


class Task(NamedTuple):
    """A generator, and what stands at both ends of a model of it."""

    draw: Callable[[int, int, Seed], tuple[np.ndarray, np.ndarray]]
    baseline: Callable[[int], float]
    solved: float  # this share of the baseline counts as solved
    unit: str
    steps: int  # of a training, if nobody says
    config: type[TaskConfig] = TaskConfig


TASKS = {
    "adding": Task(adding, lambda T: 1 / 6, 0.006, "mean squared error", 2500),
    "copy": Task(copying, lambda T: SPAN * math.log(SYMBOLS) / (T + 2 * SPAN), 0.1, "nats a step", 4000, CopyConfig),
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
    bias = layer.bias_l0.numpy().copy()
    if isinstance(layer, nn.LSTM):  # rows i, f, g, o
        bias[H : 2 * H] = long
        if memory == "chrono":
            bias[:H] = -long
    else:  # rows r, u, n; u weighs what is new
        bias[H : 2 * H] = -long
    layer.bias_l0.data = layer.bias_l0.beside(bias).data


class Fresh:
    """Batches for the Trainer, never the same sequence twice: each is a function of its step."""

    per_epoch = 1

    def __init__(self, task: Task, config: TaskConfig):
        self.task, self.config = task, config

    def __call__(self, step: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        c = self.config
        return self.task.draw(c.length, c.batch, np.random.default_rng([c.seed, 1, step])), np.ones(c.batch, bool)


class Progress(NamedTuple):
    """What a training is at: its step and time, the error on test sequences, and the first step that solved it."""

    step: int
    seconds: float
    error: float
    solved_step: int | None
    solved_seconds: float | None


def learn(
    name: str, config: TaskConfig, show: Callable[[float, str], Any] = lambda progress, text: None
) -> Iterator[Progress]:
    """Train on fresh sequences, and every 100 steps and at the end say how a test of 1000 others goes.

    >>> [p.step for p in learn("adding", TaskConfig(length=10, hidden=4, batch=2, steps=120))]
    [100, 120]
    """
    task = TASKS[name]
    model = TaskModel(name, config, generator=config.seed)
    test = task.draw(config.length, 1000, np.random.default_rng([config.seed, 2]))
    trainer = Trainer(model, Fresh(task, config), (), config.recipe())
    solved: tuple[Any, Any] = (None, None)
    losses: list[float] = []

    def look(number: int) -> Progress:
        nonlocal solved
        with no_grad():
            error = model.loss(*test)[0].item()
        if error < task.solved * task.baseline(config.length) and solved[0] is None:
            solved = number, trainer.seconds
        return Progress(number, trainer.seconds, error, *solved)

    looked = 0
    for step in trainer:
        losses.append(step.loss)
        show(trainer.progress, f"step {step.number:,}  error {np.mean(losses[-50:]):.5f}")
        if step.number % 100 == 0:
            looked = step.number
            yield look(looked)
    if trainer.number > looked:
        yield look(trainer.number)


# ---------------------------------------------------------------------------------------------------- commands


json_option = click.option("--json", "as_json", is_flag=True, help="the result as one JSON object")


@click.group(invoke_without_command=True)
@click.pass_context
def task(ctx: click.Context) -> None:
    """Tasks that ask for memory: the adding problem and the copy task."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _run(name: str, as_json: bool, settings: dict[str, Any]) -> None:
    kind = TASKS[name]
    if settings["minutes"] is None and settings["steps"] is None:
        settings["steps"] = kind.steps
    config = kind.config.pick(settings)
    baseline, recipe = kind.baseline(config.length), config.recipe()
    guess = f"guessing has {baseline:.4f} {kind.unit}"
    click.echo(
        f"{name}, T = {config.length:,}: {config.cell} of {config.hidden} units, {recipe.budget()}; {guess}", err=True
    )
    bar, found = Bar("compiling kernels"), None
    try:
        for found in learn(name, config, bar.show):
            bar.line(f"{clock(found.seconds):>6}  step {found.step:>6,}  {found.error:.6f} {kind.unit}, "
                     f"{found.error / baseline:.2%} of guessing")  # fmt: skip
    finally:
        bar.close()
    assert found is not None
    if as_json:
        click.echo(json.dumps({"task": name, **config.to_json(), **found._asdict(), "baseline": baseline}))
        return
    below = f"below {kind.solved * baseline:.1e}"
    solved = (
        f"{below} since step {found.solved_step:,}, {clock(found.solved_seconds)}"
        if found.solved_step
        else f"not {below}"
    )
    click.echo(f"{found.error:.6f} {kind.unit} after {found.step:,} steps in {clock(found.seconds)}, {solved}; {guess}")


@task.command("adding")
@TaskConfig.options
@json_option
def adding_command(as_json: bool, **settings: Any) -> None:
    """Two of T numbers are marked; what is their sum? To answer 1 has a mean squared error of 0.167."""
    _run("adding", as_json, settings)


@task.command("copy")
@CopyConfig.options
@json_option
def copy_command(as_json: bool, **settings: Any) -> None:
    """Ten symbols, T blanks, then the ten again. To guess costs 10 ln 8 / (T + 20) nats a step."""
    _run("copy", as_json, settings)
