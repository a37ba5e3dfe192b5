"""Floor 7: a recurrent language model: the distribution of the next symbol, given all before it.

e_t = E[x_t];  h_t, s_t = recurrent(e_t, s_{t-1});  p(x_{t+1} | x_1 .. x_t) = softmax(W h_t + b)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import nn, ops
from minigrad.engine import Tensor, no_grad
from minigrad.engine.tree import tree_map
from minigrad.errors import MinigradError, UserError, describe
from minigrad.models.batches import columns
from minigrad.models.settings import Settings, choice, flag, real, whole
from minigrad.models.vocabulary import Vocabulary, vocabulary_from_json
from minigrad.nn.module import Seed, as_generator

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
TRAINING = "training."  # prefix of the tensors of a checkpoint that only a resumed training needs

Training = tuple[dict[str, np.ndarray], dict[str, Any]]


@dataclass(frozen=True)
class LanguageConfig(Settings):
    """The shape of a language model."""

    cell: str = choice("lstm", tuple(CELLS), "the recurrent cell")
    layers: int = whole(1, 1, 1000, "recurrent layers")
    hidden: int = whole(256, 1, 1_000_000, "units of each layer (H)")
    embedding: int = whole(64, 1, 1_000_000, "numbers that stand for a character (D)")
    dropout: float = real(0.0, 0, 1, "share of each layer's outputs that is dropped in training", closed=True)
    tied: bool = flag("one matrix for embedding and output (needs D = H)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tied and self.embedding != self.hidden:
            got = f"embedding {self.embedding} and hidden {self.hidden}"
            raise UserError(describe("tied", got, "equal sizes", "set --embedding to the size of --hidden"))


@nn.loadable
class LanguageModel(nn.Module):
    """Embedding (V, D), recurrent layers of H units, and a linear layer to V logits.

    >>> model = LanguageModel(LanguageConfig(hidden=8, embedding=4), CharVocabulary.of("abc\\n"), generator=0)
    >>> logits, state = model(model.vocabulary.encode("cab")[:, None])  # (T, B) = (3, 1)
    >>> logits.shape
    (3, 1, 4)
    """

    def __init__(self, config: LanguageConfig, vocabulary: Vocabulary, *, generator: Seed = None):
        if len(vocabulary) < 2:
            raise UserError(
                describe("vocabulary", f"the characters {vocabulary.symbols!r}", "two different ones at least")
            )
        self.config, self.vocabulary = config, vocabulary
        self.generator = rng = as_generator(generator)
        self.embedding = nn.Embedding(len(vocabulary), config.embedding, generator=rng)
        self.recurrent = CELLS[config.cell](
            config.embedding, config.hidden, config.layers, dropout=config.dropout, generator=rng,
            **({"forget_bias": 1.0} if config.cell == "lstm" else {}),
        )  # fmt: skip
        self.dropout = nn.Dropout(config.dropout, generator=rng)
        self.output = nn.Linear(config.hidden, len(vocabulary), generator=rng)
        if config.tied:
            self.output.weight = self.embedding.weight

    # ---------------------------------------------------------------- the model and its objective

    def forward(self, ids: Any, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (T, B, V) of the symbols that follow ``ids`` (T, B), and the state after the last."""
        h, state = self._hidden(ids, state)
        return self.output(h), state

    def _hidden(self, ids: Any, state: Any) -> tuple[Tensor, Any]:
        """What the linear layer takes, (T, B, H), and the state."""
        h, state = self.recurrent(self.embedding(ids), state)
        return self.dropout(h), state

    def loss(self, inputs: Any, targets: Any, state: Any = None) -> tuple[Tensor, Any]:
        """The mean of -log p(target), in nats a symbol; inputs and targets (T, B)."""
        h, state = self._hidden(inputs, state)
        return ops.linear_cross_entropy(h, self.output.weight, targets, self.output.bias), state

    def initial_state(self, batch: int) -> Any:
        """The state before the first symbol: zeros (layers, B, H), twice for an LSTM."""
        zeros = Tensor(np.zeros((self.config.layers, batch, self.config.hidden), np.float32))
        return (zeros, zeros) if self.config.cell == "lstm" else zeros

    def reset(self, state: Any, fresh: np.ndarray) -> Any:
        """The state with zeros for the streams that begin anew; fresh (B,) of bool."""
        rows = Tensor(fresh[:, None])  # (B, 1)
        return tree_map(lambda s: ops.where(rows, 0.0, s), state) if fresh.any() else state

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """No dropout, nothing recorded."""
        before = self.training
        self.eval()
        try:
            with no_grad():
                yield
        finally:
            self.train(before)

    # ---------------------------------------------------------------- its use

    def evaluate(self, ids: np.ndarray, *, streams: int = 1, window: int = 256) -> float:
        """Mean of -log p(ids[t] | ids[0] .. ids[t-1]) over t >= 1, in nats a symbol.

        The ids are read as one stream with the state carried from window to window. Several ``streams`` side by side
        are faster, but each begins without a state.
        """
        inputs, targets = columns(ids, streams)  # (L, B)
        if not inputs.size:
            raise UserError(describe("evaluate", f"{len(ids)} symbols", f"{streams + 1} at least"))
        total, state = 0.0, None
        with self._inference():
            for t in range(0, len(inputs), window):
                part = slice(t, t + window)
                loss, state = self.loss(inputs[part], targets[part], state)
                total += loss.item() * inputs[part].size
        return total / inputs.size

    def score(self, text: str) -> float:
        """log p(text) in nats: the sum over its characters, the first following a line end."""
        ids = self.vocabulary.encode(text, "score")
        return -len(ids) * self.evaluate(np.append(self.vocabulary.start, ids)) if len(ids) else 0.0

    def sample(self, length: int, temperature: float = 1.0, prompt: str = "", generator: Seed = None) -> Iterator[str]:
        """Yield ``length`` characters after ``prompt``, each drawn from softmax(logits / temperature).

        At temperature 0 each is the likeliest. The prompt itself is not yielded; without one, the text begins after
        a line end.
        """
        if length < 0:
            raise UserError(describe("length", str(length), "0 or more"))
        if not (np.isfinite(temperature) and temperature >= 0):
            raise UserError(describe("temperature", str(temperature), "a number of at least 0"))
        context = self.vocabulary.encode(prompt, "prompt") if prompt else np.array([self.vocabulary.start])
        return self._sample(length, temperature, context, as_generator(generator))

    def _sample(self, length: int, temperature: float, ids: np.ndarray, rng: np.random.Generator) -> Iterator[str]:
        state = None
        for _ in range(length):
            with self._inference():  # left before each yield: the caller's mode is its own
                logits, state = self(ids[:, None], state)
            ids = np.array([draw(logits.numpy()[-1, 0], temperature, rng)])
            yield self.vocabulary.decode(ids)

    # ---------------------------------------------------------------- on disk

    def save(self, path: str | os.PathLike, training: Training | None = None) -> None:
        """The model as one file; with ``training``, arrays and facts from which a training goes on."""
        tensors = self.state_dict()
        if not all(np.isfinite(a).all() for a in tensors.values()):
            raise UserError(describe(f"save {path}", "parameters that are NaN or Inf", "finite ones"))
        arrays, facts = training or ({}, None)
        meta = {"class": "LanguageModel", "config": self.config.to_json(), "vocabulary": self.vocabulary.to_json()}
        nn.write(path, {**tensors, **{TRAINING + name: a for name, a in arrays.items()}}, {**meta, "training": facts})

    @classmethod
    def load(cls, path: str | os.PathLike) -> LanguageModel:
        """The model in a file; UserError if it holds none, or is damaged."""
        return cls.load_for_training(path)[0]

    @classmethod
    def load_for_training(cls, path: str | os.PathLike) -> tuple[LanguageModel, Training | None]:
        """The model, and what was given to ``save`` as ``training``."""
        where = f"checkpoint {path}"
        tensors, meta = nn.read(path)
        if meta.get("class") != "LanguageModel":
            raise UserError(describe(where, f"a model of class {meta.get('class')!r}", "a LanguageModel"))
        if bad := [name for name, a in tensors.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]:
            raise UserError(describe(where, f"{bad[0]} with NaN or Inf", "finite numbers"))
        config = LanguageConfig.from_json(where, meta.get("config"))
        vocabulary = vocabulary_from_json(where, meta.get("vocabulary"))
        parameters = {name: a for name, a in tensors.items() if not name.startswith(TRAINING)}
        _check_sizes(where, config, len(vocabulary), parameters)
        model = cls(config, vocabulary, generator=0)
        try:
            model.load_state_dict(parameters)
        except MinigradError as error:
            raise UserError(f"[{where}] {error}") from None
        facts = meta.get("training")
        arrays = {name.removeprefix(TRAINING): a for name, a in tensors.items() if name.startswith(TRAINING)}
        return model, (arrays, facts) if isinstance(facts, dict) else None


def draw(logits: np.ndarray, temperature: float, rng: np.random.Generator) -> int:
    """A symbol from softmax(logits / temperature), logits (V,); the likeliest at temperature 0."""
    if temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    cumulative = weights.cumsum()
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def _check_sizes(where: str, config: LanguageConfig, symbols: int, parameters: dict[str, np.ndarray]) -> None:
    """That a configuration fits the file's own tensors, before anything of its size is made."""

    def shape(name: str) -> tuple[int, ...]:
        return parameters[name].shape if name in parameters and parameters[name].ndim == 2 else (0, 0)

    layers = sum(name.startswith("recurrent.weight_hh_") for name in parameters)
    found = (*shape("embedding.weight"), shape("recurrent.weight_hh_l0")[1], layers)
    claimed = (symbols, config.embedding, config.hidden, config.layers)
    if found != claimed:
        got = f"tensors of sizes (V, D, H, layers) = {found} under a configuration of {claimed}"
        raise UserError(describe(where, got, "equal sizes", "the file is damaged"))
