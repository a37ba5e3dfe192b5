"""Floor 5: RNN, GRU and LSTM: a cell, stacked, in one direction or both, each layer one ``scan``."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.compiler import Call, check_lengths, scan_together
from minigrad.engine import Tensor, constant, no_grad
from minigrad.engine.tree import leaves, rebuild, tree_map
from minigrad.errors import DtypeError, ShapeError, UserError, describe
from minigrad.nn import cells
from minigrad.nn.layers import Dropout, random_mask, uniform
from minigrad.nn.module import Module, Seed, as_generator


class Recurrent(Module):
    """What RNN, GRU and LSTM share; they choose the cell, its gates and its state.

    Parameters of layer k (and direction, ``_reverse``): ``weight_ih_lk`` (gates H, I), ``weight_hh_lk`` (gates H, H),
    ``bias_lk`` (gates H,), drawn from U(-1/sqrt(H), 1/sqrt(H)). With ``dropout``, the outputs of every layer but the
    last are dropped in training, with one mask for all steps if ``locked``. With ``weight_dropout``, each training call
    drops elements of ``weight_hh``, the same ones at every step (DropConnect; Merity, Keskar and Socher 2018). With
    ``zoneout`` z, each number of the state keeps its value of the step before with probability z in training, and is
    z s_before + (1 - z) s_new in evaluation (Krueger et al. 2017). ``checkpoint_every`` goes to ``mg.scan``: less
    memory for long sequences.

    Call ``(x, state=None, lengths=None)``: x (T, B, I), or (B, T, I) if ``batch_first``; lengths integers (B,) in any
    order. Returns ``(output, state)``: output (T, B, D H), D directions; each state (layers D, B, H).
    """

    gates: int
    states = 1

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, *, bidirectional: bool = False,
                 dropout: float = 0.0, locked: bool = False, weight_dropout: float = 0.0, zoneout: float = 0.0,
                 batch_first: bool = False, checkpoint_every: int | None = None, generator: Seed = None):  # fmt: skip
        for name, n in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if n < 1:
                raise ValueError(describe(type(self).__name__, f"{name}={n}", "1 or more"))
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bidirectional, self.batch_first, self.checkpoint_every = bidirectional, batch_first, checkpoint_every
        self.generator = rng = as_generator(generator)
        self.dropout = Dropout(dropout, locked=locked, generator=rng)
        self.weight_dropout = self._probability("weight_dropout", weight_dropout)
        self.zoneout = self._probability("zoneout", zoneout)
        bound = hidden_size**-0.5
        for layer, suffix in self._directions():
            width = input_size if layer == 0 else self.widths()[0] * (2 if bidirectional else 1)
            rows = self.gates * hidden_size
            setattr(self, f"weight_ih_{suffix}", uniform(rng, bound, rows, width))
            setattr(self, f"weight_hh_{suffix}", uniform(rng, bound, rows, self.widths()[0]))
            setattr(self, f"bias_{suffix}", uniform(rng, bound, rows))
            self._more(suffix, rng, bound)

    def _more(self, suffix: str, rng: np.random.Generator, bound: float) -> None:
        """Further parameters of a cell."""

    def _probability(self, name: str, p: float) -> float:
        if not 0.0 <= p < 1.0:
            raise ValueError(describe(type(self).__name__, f"{name}={p}", f"0 <= {name} < 1"))
        return p

    def widths(self) -> tuple[int, ...]:
        """Of the states; the first is also that of the output."""
        return (self.hidden_size,) * self.states

    def _directions(self) -> list[tuple[int, str]]:
        """Layer and name suffix of every scan, in the order of the states."""
        ends = ("", "_reverse") if self.bidirectional else ("",)
        return [(layer, f"l{layer}{end}") for layer in range(self.num_layers) for end in ends]

    def cell(self) -> Any:
        raise NotImplementedError

    def cell_parameters(self, suffix: str) -> SimpleNamespace:
        """The parameters under the names of the cell's equations; in training with the weights of this call dropped."""
        names = {"W": "weight_ih", "U": "weight_hh", "b": "bias"}
        p = SimpleNamespace(**{short: getattr(self, f"{name}_{suffix}") for short, name in names.items()})
        if self.training and self.weight_dropout:
            p.U = p.U * self._mask(self.weight_dropout, p.U, *p.U.shape)
        return p

    def _initial(self, state: Any, x: Tensor) -> list[Any]:
        """One state for every scan of x (T, B, I); None is zeros."""
        count, name, batch, dtype = len(self._directions()), type(self).__name__, x.shape[1], x.dtype
        if state is None:
            zeros = [x.beside(np.zeros((x.shape[1], n), x.dtype)) for n in self.widths()]
            return [tuple(zeros) if self.states == 2 else zeros[0]] * count
        parts = [s if isinstance(s, Tensor) else constant(name, s, x) for s in leaves(state)]
        expected = [(count, batch, n) for n in self.widths()]
        if [s.shape for s in parts] != expected or any(s.dtype != dtype for s in parts):
            got = ", ".join(f"{s.shape} {s.dtype}" for s in parts)
            shapes = " and ".join(map(str, dict.fromkeys(expected)))
            wanted = f"{self.states} tensor(s) (layers D, B, H) = {shapes} {dtype}"
            raise ShapeError(describe(name, f"state {got}", wanted))
        columns = [ops.unstack(s) for s in parts]
        return [rebuild(state, [c[k] for c in columns]) for k in range(count)]

    def equipped(self, p: Any, x: Tensor, state: Any) -> tuple[Any, Any, Any, Any]:
        """Cell, parameters, inputs and state of a scan; the masks of this call stand among them."""
        cell = self.cell()
        if not self.zoneout:
            return cell, p, x, state
        cell = cells.with_zoneout(cell)
        if not self.training:
            return cell, (p, x.beside(np.asarray(self.zoneout, x.dtype))), x, state
        masks = tuple(self._mask(1.0 - self.zoneout, x, *x.shape[:2], n, scaled=False) for n in self.widths())
        return cell, p, (x, masks), state

    def _mask(self, p: float, x: Tensor, *shape: int, scaled: bool = True) -> Tensor:
        return random_mask(p, x, shape, self.generator, scaled)

    def forward(self, x: Tensor, state: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        name = type(self).__name__
        x = x if isinstance(x, Tensor) else constant(name, x, self.weight_ih_l0)  # type: ignore[attr-defined]
        if x.ndim != 3 or x.shape[2] != self.input_size:
            layout = "(B, T, I)" if self.batch_first else "(T, B, I)"
            raise ShapeError(describe(name, f"x {x.shape}", f"{layout} with I = {self.input_size}"))
        weights = self.weight_ih_l0.dtype  # type: ignore[attr-defined]
        if x.dtype != weights:
            raise DtypeError(describe(name, f"x of {x.dtype}", f"{weights}, as the weights", "cast it with .astype()"))
        if self.batch_first:
            x = ops.swapaxes(x, 0, 1)
        lengths = check_lengths(name, lengths, *x.shape[:2])
        initial = iter(self._initial(state, x))
        final: list[Any] = []
        outputs: list[Tensor] = []
        for layer in range(self.num_layers):
            x = self.dropout(_joined(outputs)) if layer else x
            calls = []
            for end in ("", "_reverse") if self.bidirectional else ("",):
                p = self.cell_parameters(f"l{layer}{end}")
                cell, p, inputs, start = self.equipped(p, x, next(initial))
                calls.append(Call(cell, p, inputs, start, lengths, bool(end), self.checkpoint_every))
            found = scan_together(*calls)
            outputs = [ys for ys, _ in found]
            final += [end[: self.states] if isinstance(end, tuple) else end for _, end in found]
        output = _joined(outputs)
        if self.batch_first:
            output = ops.swapaxes(output, 0, 1)
        return output, tree_map(_stacked, *final)


def _stacked(*states: Tensor) -> Tensor:
    return ops.reshape(states[0], (1, *states[0].shape)) if len(states) == 1 else ops.stack(states)


def _joined(outputs: list[Tensor]) -> Tensor:
    return outputs[0] if len(outputs) == 1 else ops.concat(outputs, -1)


def layer_of(cell: Callable) -> type[Recurrent]:
    """A layer like RNN, GRU and LSTM of an own cell (p, x_t, state) -> (state, y_t).

    p.W (kH, I), p.U (kH, H), p.b (kH,), x_t (B, I); the state is h or (h, c), each (B, H), and y_t is h. The number of
    gates k, 8 at most, and that of the states are found by trying.

    >>> import minigrad as mg
    >>> def coupled(p, x, s):
    ...     h, c = s
    ...     i, f, o = (mg.sigmoid(a) for a in mg.split(x @ p.W.T + h @ p.U.T + p.b, 3, axis=-1))
    ...     c = f * c + (1.0 - f) * i
    ...     h = o * mg.tanh(c)
    ...     return (h, c), h
    >>> layer = layer_of(coupled)(2, 5, num_layers=2, generator=0)
    >>> output, (h, c) = layer(mg.tensor([[[1.0, 2.0]]]))
    >>> output.shape, c.shape, layer.gates
    ((1, 1, 5), (2, 1, 5), 3)
    """
    name, failed = getattr(cell, "__name__", "cell"), []
    for states in (1, 2):
        for gates in range(1, 9):
            try:
                _try(cell, gates, states)
            except Exception as error:
                failed.append(error)
                continue
            return type(name, (Recurrent,), {"gates": gates, "states": states, "cell": lambda self: cell})
    own = [e for e in failed if not isinstance(e, (ValueError, TypeError))]  # nothing that comes of a wrong size
    why = (own or failed)[0]
    expected = "(p, x_t, state) -> (state, y_t) with p.W, p.U and p.b, a state h or (h, c), and y_t = h, all (B, H)"
    raise UserError(describe(name, f"{type(why).__name__}: {why}", expected))


def _try(cell: Callable, gates: int, states: int) -> None:
    """A step with so many gates and states; ValueError if what comes out is not (B, H)."""
    B, I, H = 3, 2, 11  # H is prime, so that no other k fits
    rng = np.random.default_rng(0)
    draw = lambda *shape: Tensor(rng.uniform(0.1, 0.9, shape).astype(np.float32))
    p = SimpleNamespace(W=draw(gates * H, I), U=draw(gates * H, H), b=draw(gates * H))
    state = tuple(draw(B, H) for _ in range(states))
    with no_grad(), np.errstate(all="ignore"):
        new, y = cell(p, draw(B, I), state if states == 2 else state[0])
    parts = leaves(new)
    shapes = [getattr(s, "shape", None) for s in (*parts, y)]
    if shapes != [(B, H)] * (states + 1):
        raise ValueError(f"{len(parts)} state(s) and y_t of shapes {shapes} for B = {B}, H = {H}")
    if not np.array_equal(parts[0].numpy(), y.numpy(), equal_nan=True):
        raise ValueError("an output that is not the first state")


class RNN(Recurrent):
    """h_t = tanh(W x_t + U h_{t-1} + b), or relu.

    >>> import minigrad as mg
    >>> output, h = mg.nn.RNN(3, 5, generator=0)(mg.tensor([[[1.0, 2.0, 3.0]]]))
    >>> output.shape, h.shape
    ((1, 1, 5), (1, 1, 5))
    """

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, *, nonlinearity: str = "tanh",
                 **options: Any):  # fmt: skip
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(describe("RNN", f"nonlinearity={nonlinearity!r}", "'tanh' or 'relu'"))
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, **options)

    def cell(self) -> Any:
        return cells.rnn_tanh if self.nonlinearity == "tanh" else cells.rnn_relu


class GRU(Recurrent):
    """Gated recurrent unit; u weighs the candidate: h_t = u n + (1 - u) h_{t-1}.

    ``reset="before"`` applies the relevance gate before the product with the state, ``"after"`` behind it (as PyTorch
    does, with a bias ``bias_hn`` inside); ``relevance=False`` leaves it out. Rows of the weights: r, u, n.
    ``mg.nn.from_torch`` turns PyTorch's z = 1 - u round.

    >>> import minigrad as mg
    >>> mg.nn.GRU(3, 5, bidirectional=True, generator=0)(mg.tensor([[[1.0, 2.0, 3.0]]]))[0].shape
    (1, 1, 10)
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, *, reset: str = "before",
                 relevance: bool = True, **options: Any):  # fmt: skip
        if reset not in ("before", "after"):
            raise ValueError(describe("GRU", f"reset={reset!r}", "'before' or 'after'"))
        self.reset, self.relevance = reset, relevance
        self.gates = 3 if relevance else 2
        super().__init__(input_size, hidden_size, num_layers, **options)

    def _more(self, suffix: str, rng: np.random.Generator, bound: float) -> None:
        if self.relevance and self.reset == "after":
            setattr(self, f"bias_hn_{suffix}", uniform(rng, bound, self.hidden_size))

    def cell(self) -> Any:
        if not self.relevance:
            return cells.gru_simple
        return cells.gru_before if self.reset == "before" else cells.gru_after

    def cell_parameters(self, suffix: str) -> SimpleNamespace:
        p = super().cell_parameters(suffix)
        if self.relevance and self.reset == "before":
            p.U, p.U_n = ops.split(p.U, [2 * self.hidden_size])
        elif self.relevance:
            p.c = getattr(self, f"bias_hn_{suffix}")
        return p
