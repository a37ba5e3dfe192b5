"""Floor 7: a recurrent language model: the distribution of the next symbol, given all before it.

e_t = E[x_t];  h_t, s_t = recurrent(e_t, s_{t-1});  p(x_{t+1} | x_1 .. x_t) = softmax(W h_t + b)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import nn, ops
from minigrad.engine import Tensor
from minigrad.engine.tree import leaves, rebuild
from minigrad.errors import UserError, describe
from minigrad.models.files import Saved, check_sizes
from minigrad.models.lm.cells import CELLS, EXPECTED, cell_of, is_cell
from minigrad.models.lm.score import log_probabilities, stream
from minigrad.models.lm.softmaxes import SOFTMAXES, make_softmax, shapes
from minigrad.models.settings import Settings, choice, flag, named, real, whole
from minigrad.models.vocabulary import Vocabulary, vocabulary_from_json
from minigrad.nn.module import Parameter, Seed, as_generator


def _share(help: str) -> Any:
    return real(0.0, 0, 1, help, closed=True)


@dataclass(frozen=True)
class LanguageConfig(Settings):
    """The shape of a language model, and what makes its training harder to overfit."""

    cell: str = named(
        "lstm", is_cell, EXPECTED, f"{', '.join(CELLS)}, or FILE.py:NAME, an own cell (p, x_t, state) -> (state, y_t)"
    )
    layers: int = whole(1, 1, 1000, "recurrent layers")
    hidden: int = whole(256, 1, 1_000_000, "units of each layer (H)")
    embedding: int = whole(64, 1, 1_000_000, "numbers that stand for a symbol (D)")
    tied: bool = flag("one matrix for embedding and output; if D is not H, the last layer has D units")
    dropout: float = _share("share of each layer's outputs that is dropped in training")
    input_dropout: float = _share("share of the numbers of each symbol that is dropped")
    output_dropout: float | None = real(None, 0, 1, "the same for the last layer  [default: --dropout]", closed=True)
    embedding_dropout: float = _share("share of the symbols that are dropped wherever they stand in a window")
    variational: bool = flag("dropout masks that stay the same over a window")
    weight_dropout: float = _share("share of the recurrent weights that is dropped in each window")
    forget_bias: float = real(1.0, -1000, 1000, "added to the bias of an LSTM's forget gate at the start")
    learn_state: bool = flag("learn the state at the start of a text; else it is zero")
    sentences: bool = flag("a model of sentences (lines): each is read by itself, from the same state")
    init: float | None = real(None, 0, math.inf, "draw all weights from the uniform distribution from -init to init")
    embedding_init: float | None = real(None, 0, math.inf, "the same for the embedding alone")
    softmax: str = choice(
        "exact", tuple(SOFTMAXES), "the output layer in training; for many words all others are faster"
    )
    samples: int = whole(1024, 1, 10**7, "drawn words of the sampled and nce softmax")
    activation_penalty: float = real(0.0, 0, math.inf, "weight of the mean of h^2 in training", closed=True)
    temporal_penalty: float = real(0.0, 0, math.inf, "weight of the mean of (h_t - h_{t-1})^2 in training", closed=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tied and self.embedding != self.hidden and self.layers == 1:
            got = f"embedding {self.embedding} and hidden {self.hidden} in one layer"
            raise UserError(describe("tied", got, "equal sizes", "set --embedding to the size of --hidden"))
        if self.tied and self.softmax == "adaptive":
            got = "an adaptive softmax, whose output is no matrix of (V, D)"
            raise UserError(describe("tied", got, "another softmax", "take --no-tied, or another --softmax"))
        dropouts = (self.dropout, self.input_dropout, self.output_dropout, self.embedding_dropout)
        if self.variational and not any(dropouts):
            do = "set --dropout, --input-dropout or --output-dropout"
            raise UserError(describe("variational", "no dropout", "some, whose mask stays", do))

    @property
    def features(self) -> int:
        """What the output layer takes."""
        return self.embedding if self.tied else self.hidden

    @property
    def stacks(self) -> list[tuple[str, int, int, int]]:
        """Name, inputs, units and layers of the recurrent parts: one, unless the last layer is of another width."""
        if self.features == self.hidden:
            return [("recurrent", self.embedding, self.hidden, self.layers)]
        return [("recurrent", self.embedding, self.hidden, self.layers - 1), ("last", self.hidden, self.features, 1)]


@nn.loadable
class LanguageModel(Saved):
    """Embedding (V, D), recurrent layers of H units, and an output layer of V classes (see ``softmaxes``).

    The ``state`` is a tree of tensors (layers, B, H): h, or (h, c) for an LSTM; where the last layer is of another
    width (``tied`` with D other than H, as in AWD-LSTM), a pair of such trees. All masks and samples of training come
    from ``generator``. In training, with r_t what the last layer gives and h_t the same after dropout,

    loss = mean of -log p(target) + activation_penalty mean(h^2) + temporal_penalty mean((r_t - r_{t-1})^2)

    (Merity, Keskar and Socher 2018; the first term as the output layer trains it).

    >>> from minigrad.models import CharVocabulary
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
        if config.sentences and vocabulary.end is None:
            raise UserError(describe("sentences", "a text without line ends", "a sentence a line"))
        self.config, self.vocabulary = config, vocabulary
        self.generator = rng = as_generator(generator)
        classes = len(vocabulary)
        self.embedding = nn.Embedding(classes, config.embedding, sparse=config.softmax != "exact", generator=rng)
        self.input_dropout = nn.Dropout(config.input_dropout, locked=config.variational, generator=rng)
        kind, options, _ = cell_of(config.cell)
        options = {**options, "forget_bias": config.forget_bias} if kind is nn.LSTM else options
        dropouts = {"dropout": config.dropout, "locked": config.variational, "weight_dropout": config.weight_dropout}
        options = {**options, **dropouts}
        self.start: list[Tensor] = []  # the learnt state
        for name, inputs, units, layers in config.stacks:
            setattr(self, name, kind(inputs, units, layers, generator=rng, **options))
            if config.learn_state:
                self.start += [Parameter(np.zeros((layers, 1, units), np.float32)) for _ in range(kind.states)]
        share = config.dropout if config.output_dropout is None else config.output_dropout
        self.dropout = nn.Dropout(share, locked=config.variational, generator=rng)
        self.output = make_softmax(config.softmax, config.features, classes, config.samples, rng)
        if config.tied:
            self.output.weight = self.embedding.weight
        if config.init is not None:
            self._draw(config.init)
        if config.embedding_init is not None:
            bound, shape = config.embedding_init, self.embedding.weight.shape
            drawn = rng.uniform(-bound, bound, shape).astype(np.float32)
            self.embedding.weight.data = self.embedding.weight.beside(drawn).data

    def _stacks(self) -> list[Any]:
        return [getattr(self, name) for name, *_ in self.config.stacks]

    def _draw(self, bound: float) -> None:
        """Every weight and bias from U(-bound, bound) (Zaremba, Sutskever and Vinyals 2014); the forget bias on top."""
        for name, p in self.named_parameters():
            if "norm_" not in name and not name.startswith("start."):
                p.data = p.beside(self.generator.uniform(-bound, bound, p.shape).astype(np.float32)).data
        for stack in self._stacks():
            if isinstance(stack, nn.LSTM):
                stack.add_forget_bias(self.config.forget_bias)

    # ---------------------------------------------------------------- the model and its objective

    def forward(self, ids: Any, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (T, B, V) of the symbols that follow ``ids`` (T, B), and the state after the last."""
        h, state = self.hidden(ids, state)
        return self.logits(h), state

    def hidden(self, ids: Any, state: Any = None) -> tuple[Tensor, Any]:
        """What the output layer takes, (T, B, H), and the state."""
        r, state = self._recur(ids, state)
        return self.dropout(r), state

    def logits(self, h: Tensor) -> Tensor:
        """From what ``hidden`` gave, (..., H), to (..., V); log p itself where the softmax is adaptive."""
        return self.output.logits(h)

    def loss(self, inputs: Any, targets: Any, state: Any = None) -> tuple[Tensor, Any]:
        """The objective, in nats a symbol; inputs and targets (T, B). In evaluation the exact mean of -log p.

        Targets of -100 at the end of a column are padding: they count nothing and cost no arithmetic.
        """
        counted = np.asarray(targets) >= 0  # (T, B)
        r, state = self._recur(inputs, state, None if counted.all() else counted.sum(0))
        h = self.dropout(r)
        loss = self.output.loss(h, targets)
        if self.training and self.config.activation_penalty:
            loss = loss + self.config.activation_penalty * _mean_square(h, counted)
        if self.training and self.config.temporal_penalty and len(r) > 1:
            loss = loss + self.config.temporal_penalty * _mean_square(r[1:] - r[:-1], counted[1:])
        return loss, state

    def nll(self, inputs: Any, targets: Any, state: Any = None) -> tuple[np.ndarray, Any]:
        """Exact -log p(target) in nats, (T, B), without dropout and unrecorded, and the state."""
        with self.inference():
            h, state = self.hidden(inputs, state)
            return self.output.nll(h, targets).numpy(), state

    def _embedded(self, ids: Any) -> Tensor:
        """(T, B, D); in training without some symbols, and the rest scaled (Gal and Ghahramani 2016)."""
        e, share = self.embedding(ids), self.config.embedding_dropout
        if self.training and share:
            symbols, at = np.unique(ids, return_inverse=True)
            kept = self.generator.random(len(symbols), np.float32) >= share
            e = ops.dropout(e, kept[at].reshape(*np.shape(ids), 1), share)
        return self.input_dropout(e)

    def _recur(self, ids: Any, state: Any, lengths: np.ndarray | None = None) -> tuple[Tensor, Any]:
        """What the last layer gives, (T, B, H), and the state."""
        x = self._embedded(ids)
        if state is None and self.start:
            state = self.initial_state(x.shape[1])
        if len(self.config.stacks) == 1:
            return self.recurrent(x, state, lengths)
        first, last = state or (None, None)
        x, first = self.recurrent(x, first, lengths)
        x, last = self.last(self.recurrent.dropout(x), last, lengths)
        return x, (first, last)

    # ---------------------------------------------------------------- the state

    def initial_state(self, batch: int) -> Any:
        """The state before the first symbol: zeros, or what was learnt."""
        parts: list[Any] = [ops.broadcast_to(s, (s.shape[0], batch, s.shape[2])) for s in self.start]
        if not parts:
            for _, _, units, layers in self.config.stacks:
                zeros = self.embedding.weight.beside(np.zeros((layers, batch, units), np.float32))
                parts += [zeros] * self.recurrent.states
        n = self.recurrent.states
        trees = [tuple(parts[i : i + n]) if n == 2 else parts[i] for i in range(0, len(parts), n)]
        return trees[0] if len(trees) == 1 else tuple(trees)

    def reset(self, state: Any, fresh: np.ndarray) -> Any:
        """The state with that before the first symbol for the streams that begin anew; fresh (B,) of bool."""
        if not fresh.any():
            return state
        rows, old = fresh[:, None], leaves(state)  # (B, 1)
        return rebuild(state, [ops.where(rows, new, s) for new, s in zip(self.start or [0.0] * len(old), old)])

    # ---------------------------------------------------------------- its use

    def evaluate(self, ids: np.ndarray, *, streams: int = 1, window: int = 256) -> float:
        """Mean of -log p(ids[t] | ids[0] .. ids[t-1]) over t >= 1, in nats a symbol.

        The ids are read as one stream with the state carried from window to window. Several ``streams`` side by side
        are faster, but each begins without a state. A model of sentences reads each by itself.
        """
        if len(ids) <= streams:
            raise UserError(describe("evaluate", f"{len(ids)} symbols", f"{streams + 1} at least"))
        total, n = 0.0, 0
        for part in stream(self, ids, window, streams):
            total, n = total + float(part.sum()), n + len(part)
        return total / n

    def score(self, text: str) -> float:
        """log p(text) in nats: the sum over its symbols, the first of which follows a line end."""
        return float(log_probabilities(self, [text])[0].sum())

    # ---------------------------------------------------------------- on disk

    def made_of(self) -> dict[str, Any]:
        return {"config": self.config.to_json(), "vocabulary": self.vocabulary.to_json()}

    @classmethod
    def remade(cls, where: str, meta: dict[str, Any], parameters: dict[str, np.ndarray]) -> LanguageModel:
        config = LanguageConfig.from_json(where, meta.get("config"))
        vocabulary = vocabulary_from_json(where, meta.get("vocabulary"))
        _check_sizes(where, config, len(vocabulary), parameters)
        return cls(config, vocabulary, generator=0)


def _mean_square(x: Tensor, counted: np.ndarray) -> Tensor:
    """Over x (T, B, H) where ``counted`` (T, B)."""
    if counted.all():
        return ops.mean(ops.square(x))
    total = ops.sum(ops.where(counted[..., None], ops.square(x), 0.0))
    return total * (1 / max(int(counted.sum()) * x.shape[2], 1))


def _check_sizes(where: str, config: LanguageConfig, symbols: int, parameters: dict[str, np.ndarray]) -> None:
    """That a configuration fits the file's own matrices, before anything of its size is made."""
    expected: dict[str, tuple[int, ...]] = {"embedding.weight": (symbols, config.embedding)}
    gates = cell_of(config.cell, where)[2]
    for stack, inputs, units, layers in config.stacks:
        for k in range(layers):
            expected[f"{stack}.weight_ih_l{k}"] = (gates * units, units if k else inputs)
            expected[f"{stack}.weight_hh_l{k}"] = (gates * units, units)
    if not config.tied:
        output = shapes(config.softmax, config.features, symbols)
        expected |= {f"output.{name}": shape for name, shape in output.items()}
    check_sizes(where, expected, parameters)
