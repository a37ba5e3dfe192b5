"""Floor 7: an encoder and a decoder: the distribution of an output y of T symbols given an input x of S others.

p(y | x) = prod_t p(y_t | y_1 .. y_{t-1}, x),  p(y_t | ..) = softmax(W r_t + b),  r_t the decoder's readout
"""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np

from minigrad import nn, ops
from minigrad.compiler import scan
from minigrad.engine import Tensor, no_grad
from minigrad.engine.tree import tree_map
from minigrad.errors import UserError, describe
from minigrad.models.files import Saved, check_sizes
from minigrad.models.lm.cells import cell_of
from minigrad.models.lm.decode import draw, log_softmax
from minigrad.models.lm.softmaxes import IGNORED, Exact, rows
from minigrad.models.seq2seq.attention import NEVER, Memory, decoder_cell
from minigrad.models.seq2seq.config import Seq2SeqConfig
from minigrad.models.vocabulary import Vocabulary, vocabulary_from_json
from minigrad.nn.layers import random_mask, uniform
from minigrad.nn.module import Parameter, Seed, as_generator

SCALE = 0.1  # of the embeddings at the start
KEPT = 2**25  # numbers (B, S, A) of additive attention that a backward pass keeps; beyond, steps are run again


class EncoderDecoder(Saved):
    """What does not depend on the kind of source. A class derived from it makes x (S, B, D) of a source (``embedded``).

    Encoder: recurrent layers over x, all their outputs m (B, S, H) as memory, and a bridge from their last states to
    the decoder's first: h = tanh(M h_S + n), c = M c_S + n. Decoder: see ``attention``.
    """

    def __init__(self, config: Seq2SeqConfig, target: Vocabulary, *, generator: Seed = None):
        if target.end is None:
            raise UserError(describe("target", "a vocabulary without an end", "one that has it", "see of_lines"))
        self.config, self.target = config, target
        self.generator = rng = as_generator(generator)
        D, H, R = config.embedding, config.hidden, config.readout
        kind, options, _ = cell_of(config.cell)
        both = config.direction == "both"
        options = {**options, "generator": rng}
        self.embedding = nn.Embedding(len(target), D, scale=SCALE, generator=rng)
        width, n = (H // 2 if both else H), config.layers
        self.encoder = kind(D, width, n, bidirectional=both, dropout=config.dropout, **options)
        self.bridge = [nn.Linear(H, H, generator=rng) for _ in range(n * kind.states)]
        self.decoder = kind(D + config.fed, H, n, **options)
        self.attention = self._attention(rng, H, R) if config.attention != "none" else {}
        self.dropout = nn.Dropout(config.dropout, generator=rng)
        self.output = Exact(R, len(target), generator=rng)
        if config.tied:
            self.output.weight = self.embedding.weight

    def _attention(self, rng: np.random.Generator, H: int, R: int) -> dict[str, Tensor]:
        """C (R, 2H) of the readout; W (H, H) of the keys, L (positions, H), Q (H, H), v (H,), u of the scores."""
        kind, bound = self.config.attention, H**-0.5
        found = {"C": uniform(rng, (2 * H) ** -0.5, R, 2 * H)}
        if kind in ("general", "additive"):
            found["W"] = uniform(rng, bound, H, H)
        if kind == "location":
            found["L"] = uniform(rng, bound, self.config.positions, H)
        if kind == "additive":
            found |= {"Q": uniform(rng, bound, H, H), "v": uniform(rng, bound, H)}
        if self.config.coverage:
            found["u"] = Parameter(np.zeros(H if kind == "additive" else (), np.float32))
        return found

    # ---------------------------------------------------------------- encoder

    def embedded(self, source: Any) -> Tensor:
        """x (S, B, D)."""
        raise NotImplementedError(f"{type(self).__name__} has no sources")

    def encode(self, source: Any, lengths: Any) -> tuple[Tensor, Any]:
        """What the encoder says of each position (S, B, H), and its last states (layers, B, H)."""
        source, lengths = np.asarray(source), np.asarray(lengths)
        if self.config.direction == "backward":
            source = source[reversed_rows(len(source), lengths), np.arange(len(lengths))]
        outputs, state = self.encoder(self.dropout(self.embedded(source)), lengths=lengths)
        return outputs, tree_map(self._directions_joined, state)

    def _directions_joined(self, s: Tensor) -> Tensor:
        """(layers D, B, n) -> (layers, B, D n)."""
        if self.config.direction != "both":
            return s
        return ops.concat([s[0::2], s[1::2]], -1)

    def start(self, source: Any, lengths: Any) -> Any:
        """The decoder's state before the first symbol: a tree of tensors (B, ...)."""
        config, S = self.config, len(source)
        outputs, last = self.encode(source, lengths)
        parts = last if isinstance(last, tuple) else (last,)
        layers, bridges = [], iter(self.bridge)
        for k in range(config.layers):
            h, *c = (next(bridges)(part[k]) for part in parts)
            layers.append((ops.tanh(h), *c) if c else ops.tanh(h))
        if config.attention == "none":
            return tuple(layers)
        values = ops.swapaxes(self.dropout(outputs), 0, 1)  # (B, S, H)
        keys = values @ self.attention["W"].T if "W" in self.attention else values
        B, there = values.shape[0], np.arange(S) < np.asarray(lengths)[:, None]  # (B, S)
        if config.attention == "location":
            there &= np.arange(S) < config.positions
        zeros = lambda n: values.beside(np.zeros((B, n), values.dtype))
        fed = zeros(config.readout) if config.input_feeding else None
        bias = values.beside(np.where(there, 0.0, NEVER).astype(values.dtype))
        return tuple(layers), fed, zeros(S) if config.coverage else None, Memory(keys, values, bias)

    # ---------------------------------------------------------------- decoder

    def _cell(self, state: Any) -> tuple[Any, SimpleNamespace]:
        """The decoder's cell and its parameters, for a source of that state."""
        config = self.config
        cell = decoder_cell(self.decoder.cell(), config.attention, config.input_feeding)
        layers = tuple(self.decoder.cell_parameters(f"l{k}") for k in range(config.layers))
        own = {name: w for name, w in self.attention.items() if name != "W"}
        if "L" in own:
            S, known = state[3].bias.shape[1], config.positions
            more = own["L"].beside(np.zeros((max(S - known, 0), config.hidden), own["L"].dtype))
            own["L"] = ops.concat([own["L"], more], 0) if known < S else own["L"][:S]
        return cell, SimpleNamespace(layers=layers, **own)

    def _inputs(self, ids: np.ndarray) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Embedded symbols (T, B, D), and the dropout masks between layers."""
        x, config = self.dropout(self.embedding(ids)), self.config
        if not (self.training and config.dropout):
            return x, ()
        shape = (config.layers - 1, *x.shape[:2], config.hidden)
        return x, tuple(ops.unstack(random_mask(config.dropout, x, shape, self.generator)))

    def decode(self, ids: np.ndarray, state: Any, lengths: Any = None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Readouts (T, B, R) after the symbols ``ids`` (T, B); of attention, its weights (T, B, S) and, with coverage,
        what fell on the same again."""
        (cell, p), every = self._cell(state), None
        if self.config.attention == "additive":  # which keeps tanh(..), (B, S, A), of each step
            every = max(1, KEPT // state[3].keys.size)
        y, _ = scan(cell, p, self._inputs(ids), state, lengths=lengths, checkpoint_every=every)
        return _parts(y)

    def _sampled(self, ids: np.ndarray, state: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """``decode``, but a coin for each symbol after the first decides whether it is read as given, or as the model
        itself draws it (Bengio et al. 2015, "Scheduled sampling")."""
        (cell, p), found = self._cell(state), []
        coins = self.generator.random(ids.shape) < self.config.scheduled_sampling
        for t in range(len(ids)):
            read = ids[t]
            if t and coins[t].any():
                with no_grad():
                    logits = self.output.logits(found[-1][0]).numpy()
                drawn = draw(np.exp(log_softmax(logits.astype(np.float64))), self.generator)
                read = np.where(coins[t], drawn, read)
            x, masks = self._inputs(read[None])
            state, y = cell(p, (x[0], tuple(m[0] for m in masks)), state)
            found.append(_parts(y))
        return tuple(None if parts[0] is None else ops.stack(parts) for parts in zip(*found))  # type: ignore[return-value]

    def loss(self, source: Any, lengths: Any, target: Any, carry: Any = None) -> tuple[Tensor, None]:
        """The objective, in nats a target symbol: the mean of -log p(y_t | y_<t, x), smoothed, plus coverage times the
        mean over symbols of sum_s min(a_s, k_s)."""
        config, target = self.config, np.asarray(target)
        counted = target != IGNORED  # (T, B)
        ids, state = self._read(target), self.start(source, lengths)
        if self.training and config.scheduled_sampling:
            found = self._sampled(ids, state)
        else:
            found = self.decode(ids, state, counted.sum(0))
        readouts, _, again = found
        h, t, _ = rows(self.dropout(readouts), target, len(self.target))
        smoothing = config.label_smoothing if self.training else 0.0
        loss = ops.linear_cross_entropy(h, self.output.weight, t, self.output.bias, label_smoothing=smoothing)
        if again is not None and self.training:
            kept = ops.where(counted[..., None], again, 0.0)
            loss = loss + config.coverage / max(int(counted.sum()), 1) * ops.sum(kept)
        return loss, None

    def _read(self, target: np.ndarray) -> np.ndarray:
        """What the decoder reads (T, B): the start symbol, and then the targets but for the last."""
        ids = np.roll(target, 1, axis=0)
        ids[0] = self.target.start
        return np.where(ids == IGNORED, self.target.end, ids)

    def reset(self, carry: Any, fresh: Any) -> None:
        """Nothing is carried from batch to batch."""

    # ---------------------------------------------------------------- its use

    def nll(self, source: Any, lengths: Any, target: Any) -> np.ndarray:
        """Exact -log p(y_t | y_<t, x) in nats (T, B), without dropout and smoothing; 0 behind the end."""
        target = np.asarray(target)
        with self.inference():
            readouts, _, _ = self.decode(self._read(target), self.start(source, lengths), (target != IGNORED).sum(0))
            return self.output.nll(readouts, target).numpy()

    def evaluate(self, batches: Any) -> float:
        """Mean of -log p over the target symbols of an epoch of ``batches``, in nats."""
        total, n = 0.0, 0
        for step in range(batches.per_epoch):
            (source, lengths, target), _ = batches(step)
            total += float(self.nll(source, lengths, target).sum(dtype=np.float64))
            n += int((target != IGNORED).sum())
        return total / max(n, 1)

    def step(self, ids: Any, state: Any) -> tuple[np.ndarray, Any, np.ndarray | None]:
        """log p (N, V) in float64 of what follows ``ids`` (N,), the new state, and the attention (N, S)."""
        with self.inference():
            cell, p = self._cell(state)
            x, masks = self._inputs(np.asarray(ids)[None])
            state, y = cell(p, (x[0], masks), state)
            h, weights, _ = _parts(y)
            logits = self.output.logits(h).numpy().astype(np.float64)
        return log_softmax(logits), state, None if weights is None else weights.numpy()

    @staticmethod
    def rows(state: Any, rows: Any) -> Any:
        """The state of some rows, in that order."""
        return tree_map(lambda s: ops.embedding(s.detach(), rows), state)


@nn.loadable
class Seq2Seq(EncoderDecoder):
    """p(y | x) of lines of symbols. Sources are ids (S, B) with lengths (B,); targets ids (T, B), each with its end
    symbol, and -100 behind it.

    >>> from minigrad.models import CharVocabulary
    >>> v = CharVocabulary.of("abc\\n")
    >>> model = Seq2Seq(Seq2SeqConfig(hidden=8, embedding=4), v, v, generator=0)
    >>> loss, _ = model.loss(v.encode("cab")[:, None], [3], v.encode("bac\\n")[:, None])
    >>> loss.shape
    ()
    """

    def __init__(self, config: Seq2SeqConfig, source: Vocabulary, target: Vocabulary, *, generator: Seed = None):
        super().__init__(config, target, generator=generator)
        self.source = source
        rng = self.generator
        self.source_embedding = nn.Embedding(len(source), config.embedding, scale=SCALE, generator=rng)

    def embedded(self, source: Any) -> Tensor:
        return self.source_embedding(source)

    # ---------------------------------------------------------------- on disk

    def made_of(self) -> dict[str, Any]:
        return {"config": self.config.to_json(), "source": self.source.to_json(), "target": self.target.to_json()}

    @classmethod
    def remade(cls, where: str, meta: dict[str, Any], parameters: dict[str, np.ndarray]) -> Seq2Seq:
        config = Seq2SeqConfig.from_json(where, meta.get("config"))
        source, target = (vocabulary_from_json(where, meta.get(name)) for name in ("source", "target"))
        expected = sizes(config, len(target), where) | {"source_embedding.weight": (len(source), config.embedding)}
        check_sizes(where, expected, parameters)
        return cls(config, source, target, generator=0)


def sizes(config: Seq2SeqConfig, target: int, where: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the matrices that say how large all others are."""
    H, D, gates = config.hidden, config.embedding, cell_of(config.cell, where)[2]
    n = H // 2 if config.direction == "both" else H
    expected: dict[str, tuple[int, ...]] = {"embedding.weight": (target, D)}
    for k in range(config.layers):
        expected[f"encoder.weight_hh_l{k}"] = (gates * n, n)
        expected[f"decoder.weight_hh_l{k}"] = (gates * H, H)
    if config.attention == "location":
        expected["attention.L"] = (config.positions, H)
    return expected


def _parts(y: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Readout, attention and what was attended to again, of a cell's y."""
    found: Iterable[Any] = y if isinstance(y, tuple) else (y,)
    return (*found, None, None)[:3]  # type: ignore[return-value]


def reversed_rows(S: int, lengths: np.ndarray) -> np.ndarray:
    """Positions (S, B) that turn round the first ``lengths`` (B,) of each column.

    >>> reversed_rows(3, np.array([3, 2])).T.tolist()
    [[2, 1, 0], [1, 0, 2]]
    """
    at = np.arange(S)[:, None]
    return np.where(at < lengths, lengths - 1 - at, at)
