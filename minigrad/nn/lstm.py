"""Floor 5: the LSTM and its variants, all of one cell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from minigrad.engine import Tensor
from minigrad.errors import describe
from minigrad.nn import cells
from minigrad.nn.layers import uniform
from minigrad.nn.module import Parameter
from minigrad.nn.recurrent import Recurrent

_NAMES = {
    "R": "weight_hr", "ci": "weight_ci", "cf": "weight_cf", "co": "weight_co", "gain_x": "norm_ih",
    "gain_h": "norm_hh", "gain_c": "norm_c", "bias_c": "norm_c_bias",
}  # fmt: skip


class LSTM(Recurrent):
    """Long short-term memory; the state is (h, c). Rows of the weights: i, f, g, o (``coupled``: f, g, o).
    ``forget_bias`` is added to the drawn bias of f. Switches (equations and sources: ``cells.lstm_variant``):

    proj_size:           h has this width: ``weight_hr_lk`` (P, H)
    peepholes:           the gates see c: ``weight_ci_lk``, ``weight_cf_lk``, ``weight_co_lk`` (H,); no ci if coupled
    coupled:             i = 1 - f
    layer_norm:          of W x, U h and c: ``norm_ih_lk``, ``norm_hh_lk`` (gates H,), ``norm_c_lk``, ``norm_c_bias_lk``
    variational_dropout: in training, one mask for all steps on each layer's input and on h
    recurrent_dropout:   in training, a mask for each step on the candidate g

    >>> import minigrad as mg
    >>> output, (h, c) = mg.nn.LSTM(3, 5, num_layers=2, generator=0)(mg.tensor([[[1.0, 2.0, 3.0]]]))
    >>> output.shape, h.shape, c.shape
    ((1, 1, 5), (2, 1, 5), (2, 1, 5))
    """

    gates, states = 4, 2

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, *, forget_bias: float = 0.0,
                 proj_size: int = 0, peepholes: bool = False, coupled: bool = False, layer_norm: bool = False,
                 variational_dropout: float = 0.0, recurrent_dropout: float = 0.0, **options: Any):  # fmt: skip
        if not 0 <= proj_size < max(hidden_size, 1):
            raise ValueError(describe("LSTM", f"proj_size={proj_size}", f"0 (none) <= proj_size < H = {hidden_size}"))
        self.proj_size, self.peepholes, self.coupled, self.layer_norm = proj_size, peepholes, coupled, layer_norm
        self.variational_dropout = self._probability("variational_dropout", variational_dropout)
        self.recurrent_dropout = self._probability("recurrent_dropout", recurrent_dropout)
        self.gates = 3 if coupled else 4
        super().__init__(input_size, hidden_size, num_layers, **options)
        self.add_forget_bias(forget_bias)

    def add_forget_bias(self, amount: float) -> None:
        """Open the forget gates of a layer that was just drawn (Jozefowicz, Zaremba and Sutskever 2015)."""
        H = self.hidden_size
        forget = slice(0, H) if self.coupled else slice(H, 2 * H)
        for _, suffix in self._directions():
            bias = getattr(self, f"bias_{suffix}")
            opened = bias.numpy().copy()
            opened[forget] += np.float32(amount)
            bias.data = bias.beside(opened).data

    def widths(self) -> tuple[int, ...]:
        return (self.proj_size or self.hidden_size, self.hidden_size)

    def _more(self, suffix: str, rng: np.random.Generator, bound: float) -> None:
        H = self.hidden_size
        if self.proj_size:
            setattr(self, f"weight_hr_{suffix}", uniform(rng, bound, self.proj_size, H))
        if self.peepholes:
            for gate in ("cf", "co") if self.coupled else ("ci", "cf", "co"):
                setattr(self, f"weight_{gate}_{suffix}", uniform(rng, bound, H))
        if self.layer_norm:
            for name, n in (("norm_ih", self.gates * H), ("norm_hh", self.gates * H), ("norm_c", H)):
                setattr(self, f"{name}_{suffix}", Parameter(np.ones(n, np.float32)))
            setattr(self, f"norm_c_bias_{suffix}", Parameter(np.zeros(H, np.float32)))

    def cell(self) -> Any:
        plain = not (self.proj_size or self.peepholes or self.coupled or self.layer_norm)
        dropped = self.training and (self.variational_dropout or self.recurrent_dropout)
        return cells.lstm if plain and not dropped else cells.lstm_variant

    def cell_parameters(self, suffix: str) -> SimpleNamespace:
        p = super().cell_parameters(suffix)
        if self.cell() is cells.lstm_variant:
            found = {short: getattr(self, f"{name}_{suffix}", None) for short, name in _NAMES.items()}
            vars(p).update({short: value for short, value in found.items() if value is not None})
        return p

    def equipped(self, p: Any, x: Tensor, state: Any) -> tuple[Any, Any, Any, Any]:
        steps, batch, width = x.shape
        inputs: Any = x
        if self.training and self.variational_dropout:
            inputs = x * self._mask(self.variational_dropout, x, batch, width)
            state = (*state, self._mask(self.variational_dropout, x, batch, self.widths()[0]))
        cell, p, inputs, state = super().equipped(p, inputs, state)
        if self.training and self.recurrent_dropout:
            mask = self._mask(self.recurrent_dropout, x, steps, batch, self.hidden_size)
            inputs = ((inputs[0], mask), inputs[1]) if self.zoneout else (inputs, mask)
        return cell, p, inputs, state
