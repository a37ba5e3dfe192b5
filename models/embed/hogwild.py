"""Floor 7: epochs of many small tasks, done by threads that share the parameters without locks (Recht et al. 2011)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.models.training import Diverged

TASKS = 16  # for each thread between two reports


class Report(NamedTuple):
    """Where training is: the epoch (from 1), how much of it is done, how much there is, and its mean loss so far."""

    epoch: int
    done: int
    total: int
    loss: float


class Hogwild:
    """``for report in training`` does it; between two reports nothing runs, and ``state`` may be taken.

    A subclass has ``arrays`` (the parameters, by name, which its kernels change in place), ``total`` (how much an epoch
    is, for people), ``tasks()`` of the epoch that is on, the same each time it is asked, and ``run(task)``, which frees
    the interpreter's lock and gives what was done: how much, the summed loss, and what to divide it by. Losses are
    summed in float64, by task. With one thread a run repeats to the last bit.
    """

    arrays: dict[str, np.ndarray]
    total: int

    def __init__(self, epochs: int, threads: int):
        self.epochs, self.threads = epochs, threads
        self.losses: list[float] = []  # of the epochs that are over
        self._tally = np.zeros(4)  # of this epoch: tasks done, how much that was, summed loss, what to divide it by

    def tasks(self) -> list[Any]:
        raise NotImplementedError

    def run(self, task: Any) -> tuple[int, float, int]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Report]:
        pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        with pool or nullcontext():
            while (epoch := len(self.losses)) < self.epochs:
                tasks = self.tasks()
                while len(self.losses) == epoch:
                    yield self._group(tasks, pool)

    def _group(self, tasks: list[Any], pool: ThreadPoolExecutor | None) -> Report:
        first = int(self._tally[0])
        group = tasks[first : first + TASKS * self.threads]
        for result in pool.map(self.run, group) if pool else map(self.run, group):
            self._tally += (1, *result)
        done, cost, parts = self._tally[1:].tolist()
        report = Report(len(self.losses) + 1, int(done), self.total, cost / max(parts, 1))
        if not isfinite(report.loss):
            got = f"loss {report.loss:g} in epoch {report.epoch}"
            raise Diverged(describe("training", got, "finite numbers", "try a smaller --lr"))
        if self._tally[0] == len(tasks):
            if not parts:
                got, do = "not one pair of words in an epoch", "use longer sentences, a smaller --sample or --min-count"
                raise UserError(describe("training", got, "words that stand together", do))
            self.losses.append(report.loss)
            self._tally[:] = 0
        return report

    def state(self) -> dict[str, np.ndarray]:
        """All that the next task depends on, but for the data and the settings: the arrays themselves, not copies."""
        return {**self.arrays, "losses": np.array(self.losses), "tally": self._tally.copy()}

    def restore(self, where: str, state: dict[str, np.ndarray]) -> None:
        """Go on from what ``state`` gave; UserError if it is anything else."""
        new = {name: state.get(name, np.zeros(())) for name in (*self.arrays, "losses", "tally")}
        good = all(new[name].shape == a.shape and new[name].dtype == a.dtype for name, a in self.arrays.items())
        good &= all(a.dtype.kind == "f" and np.isfinite(a).all() for a in new.values())
        good &= new["losses"].ndim == 1 and new["tally"].shape == (4,)
        if good:
            self.losses, self._tally = new["losses"].tolist(), new["tally"].copy()
            done, much, _, parts = self._tally.tolist()
            good = done in range(len(self.tasks())) and 0 <= much <= self.total and parts >= 0
        if not good:
            raise UserError(describe(where, "a damaged state of training", "what embed train wrote"))
        for name, a in self.arrays.items():
            a[...] = new[name]

    def held_out_loss(self) -> float | None:
        """The mean loss of what is not trained on; None where nothing is kept for that."""
        return None
