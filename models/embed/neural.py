"""Floor 7: the neural language model over a fixed number of words, whose table of vectors is what is wanted here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad import nn, ops
from minigrad.engine import Tensor, no_grad
from minigrad.errors import UserError, describe
from minigrad.models.embed.hogwild import Report
from minigrad.models.lm.softmaxes import make_softmax
from minigrad.models.recipe import Recipe
from minigrad.models.training import Trainer
from minigrad.nn.module import Seed, as_generator


class NeuralModel(nn.Module):
    """The next word after n words: e = [E[w_1], .., E[w_n]];  h = tanh(W e + b);  p = softmax(U h + d)

    (Bengio, Ducharme, Vincent and Jauvin 2003, without direct connections from e to the output). E (V, D);
    W (H, n D); U (V, H), or another output layer of ``models.lm.softmaxes``, by its name.

    >>> model = NeuralModel(10, dim=3, hidden=4, generator=0)
    >>> loss, _ = model.loss(np.array([[5, 2], [3, 4], [8, 2], [3, 5], [1, 2]]))
    >>> loss.shape, model.vectors().shape
    ((), (8, 3))
    """

    def __init__(self, symbols: int, dim: int = 100, hidden: int = 200, context: int = 4, *, softmax: str = "exact",
                 samples: int = 1024, generator: Seed = None):  # fmt: skip
        for name, n in {"symbols": symbols - 1, "dim": dim, "hidden": hidden, "context": context}.items():
            if n < 1:
                raise UserError(describe("NeuralModel", f"too few {name}", "1 or more, and 2 or more symbols"))
        self.generator = rng = as_generator(generator)
        self.context = context
        self.embedding = nn.Embedding(symbols, dim, sparse=True, scale=dim**-0.5, generator=rng)
        self.hidden = nn.Linear(context * dim, hidden, generator=rng)
        self.output = make_softmax(softmax, hidden, symbols, samples, rng)

    def _hidden(self, ids: Any) -> Tensor:
        """h (B, H) after words (n, B)."""
        n, batch = np.shape(ids)
        if n != self.context:
            raise UserError(describe("NeuralModel", f"{n} words before a word", f"{self.context}"))
        e = self.embedding(np.ascontiguousarray(np.transpose(ids)))  # (B, n, D)
        return ops.tanh(self.hidden(ops.reshape(e, (batch, -1))))

    def loss(self, ids: np.ndarray, carry: Any = ()) -> tuple[Tensor, Any]:
        """The objective, in nats a word, for words (n + 1, B), the last of which is to be foretold; and nothing to
        carry. In evaluation the exact mean of -log p."""
        return self.output.loss(self._hidden(ids[:-1]), ids[-1]), carry

    def nll(self, ids: np.ndarray) -> np.ndarray:
        """Exact -log p (B,) of the last of words (n + 1, B), unrecorded."""
        with no_grad():
            return self.output.nll(self._hidden(ids[:-1]), ids[-1]).numpy()

    def reset(self, carry: Any, fresh: np.ndarray) -> Any:
        return carry

    def vectors(self, first: int = 2) -> np.ndarray:
        """E without the rows of the first symbols, <UNK> and <EOS>: those of the words."""
        return self.embedding.weight.numpy()[first:].copy()


def shuffled(places: np.ndarray, n: int, keys: np.ndarray) -> np.ndarray:
    """What stands at ``places`` of a permutation of 0 .. n - 1, drawn by ``keys`` (a few uint64), of which nothing else
    is computed: a Feistel network over a power of 4, walked until it is below n (Black and Rogaway 2002).

    >>> shuffled(np.arange(5), 5, np.array([1, 2, 3, 4], np.uint64)).tolist()
    [2, 3, 4, 1, 0]
    """
    bits = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << bits) - np.uint64(1)
    found = np.array(places, np.uint64)
    outside = np.arange(len(found))
    while len(outside):
        left, right = found[outside] >> bits, found[outside] & mask
        for key in keys:
            z = (right + key) * np.uint64(0x9E3779B97F4A7C15)
            left, right = (
                right,
                left ^ ((z ^ (z >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(40) & mask),
            )
        found[outside] = left << bits | right
        outside = outside[found[outside] >= n]
    return found.astype(np.int64)


class Contexts:
    """Batches of B places of a text, shuffled anew in each epoch: words (n + 1, B), n and the one after them.

    A batch is a function of the number of the step alone. No order of all places is kept, and ids may be memory-mapped.
    The last batch of an epoch may be smaller.

    >>> (words,), fresh = Contexts(np.arange(9), batch=3, context=4, seed=0)(1)
    >>> words.T.tolist(), fresh.tolist()
    ([[2, 3, 4, 5, 6], [1, 2, 3, 4, 5]], [True, True])
    """

    def __init__(self, ids: np.ndarray, batch: int, context: int = 4, seed: int = 1):
        self.ids, self.batch, self.context, self.seed = ids, batch, context, seed
        self.places = len(ids) - context
        if self.places < 1:
            raise UserError(describe("text", f"{len(ids)} words", f"more than the {context} before a word"))
        self.per_epoch = -(-self.places // batch)
        self._window = np.arange(context + 1)[:, None]  # (n + 1, 1)

    def __call__(self, step: int) -> tuple[tuple[np.ndarray], np.ndarray]:
        epoch, k = divmod(step, self.per_epoch)
        keys = np.random.default_rng([self.seed, epoch]).integers(2**64, size=6, dtype=np.uint64)
        places = np.arange(k * self.batch, min((k + 1) * self.batch, self.places))
        at = shuffled(places, self.places, keys)
        return (self.ids[self._window + at],), np.ones(len(at), bool)


class NeuralTraining:
    """Epochs of ``NeuralModel`` by Adam, reported like those of the other objectives.

    >>> ids = np.tile([2, 3, 4, 1], 60).astype(np.int32)
    >>> training = NeuralTraining(ids, 5, epochs=2, dim=4, hidden=8, batch=16)
    >>> [report.epoch for report in training if report.done == report.total]
    [1, 2]
    """

    def __init__(self, ids: np.ndarray, symbols: int, epochs: int, *, context: int = 4, batch: int = 256,
                 lr: float = 1e-3, seed: int = 1, held_out: Any = (), **options: Any):  # fmt: skip
        self.epochs, self.contexts = epochs, Contexts(ids, batch, context, seed)
        self.held_out = np.asarray(held_out, np.int32)
        model = NeuralModel(symbols, context=context, generator=seed, **options)
        recipe = Recipe(batch=batch, lr=lr, seed=seed, epochs=epochs, warmup=0, schedule="hold")
        self.trainer = Trainer(model, self.contexts, (), recipe)
        self.losses: list[float] = []  # of the epochs that are over
        self._cost = 0.0  # summed, of this one

    def __iter__(self) -> Iterator[Report]:
        n = self.contexts.per_epoch
        while len(self.losses) < self.epochs:
            step = self.trainer.step(self.trainer.progress)
            before, places = (step.number - 1) % n * self.contexts.batch, self.contexts.places
            words = min(before + self.contexts.batch, places)
            self._cost += step.loss * (words - before)  # the last batch may be smaller
            report = Report(len(self.losses) + 1, words, places, self._cost / words)
            if words == places:
                self.losses.append(report.loss)
                self._cost = 0.0
            yield report

    def held_out_loss(self) -> float | None:
        """The exact mean of -log p over the held-out text."""
        n, batch = self.contexts.context, self.contexts.batch
        places = np.arange(len(self.held_out) - n)
        if not len(places):
            return None
        window = np.arange(n + 1)[:, None]
        parts = [self.trainer.model.nll(self.held_out[window + places[k : k + batch]]).sum(dtype=np.float64)
                 for k in range(0, len(places), batch)]  # fmt: skip
        return float(sum(parts) / len(places))

    def vectors(self) -> np.ndarray:
        return self.trainer.model.vectors()

    def state(self) -> dict[str, np.ndarray]:
        """All that the next step depends on, but for the data and the settings."""
        arrays, facts = self.trainer.state()
        model = {f"model.{name}": a for name, a in self.trainer.model.state_dict().items()}
        tally = {"losses": np.array(self.losses), "cost": np.array(self._cost)}
        return {**arrays, **model, **tally, "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8)}

    def restore(self, where: str, state: dict[str, np.ndarray]) -> None:
        """Go on from what ``state`` gave; UserError if it is anything else."""
        try:
            facts = json.loads(state["facts"].tobytes())
            own = {name.removeprefix("model."): a for name, a in state.items() if name.startswith("model.")}
            self.trainer.model.load_state_dict(own)
            self.losses, self._cost = [float(x) for x in state["losses"]], float(state["cost"])
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(
                describe(where, f"a damaged state of training ({error})", "what embed train wrote")
            ) from None
        self.trainer.restore(where, state, facts)
