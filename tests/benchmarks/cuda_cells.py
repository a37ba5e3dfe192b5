"""Cells that cuDNN has not: for minigrad their equations, for torch a loop over steps, as its users write them."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg


class Scanned(mg.nn.Module):
    """A cell as a layer. Weights of ``gates`` blocks of H units, for the input and for the state."""

    def __init__(self, cell: Any, hidden: int, gates: int):
        super().__init__()
        rng, bound = np.random.default_rng(0), hidden**-0.5

        def drawn(*shape: int) -> mg.nn.Parameter:
            return mg.nn.Parameter(rng.uniform(-bound, bound, shape).astype(np.float32))

        self.cell, self.hidden = cell, hidden
        self.W, self.U, self.b = drawn(gates * hidden, hidden), drawn(gates * hidden, hidden), drawn(gates * hidden)

    def forward(self, x: mg.Tensor) -> tuple[mg.Tensor, Any]:
        zeros = mg.tensor(np.zeros((x.shape[1], self.hidden), np.float32), device=x.device)
        return mg.scan(self.cell, self, x, (zeros, zeros))


def coupled(p: Any, x: mg.Tensor, s: Any) -> Any:
    """What one gate adds the other forgets: c = f c + (1 - f) i."""
    h, c = s
    i, f, o = (mg.sigmoid(a) for a in mg.split(x @ p.W.T + h @ p.U.T + p.b, 3, axis=-1))
    c = f * c + (1 - f) * i
    h = o * mg.tanh(c)
    return (h, c), h


OURS = {
    "coupled gates": lambda hidden: Scanned(coupled, hidden, 3),
    "layer-norm LSTM": lambda hidden: mg.nn.LSTM(hidden, hidden, layer_norm=True),
}


def theirs(torch: Any, name: str, hidden: int) -> Any:
    class Loop(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            gates = 4 if name == "layer-norm LSTM" else 3
            self.x = torch.nn.Linear(hidden, gates * hidden)
            self.h = torch.nn.Linear(hidden, gates * hidden, bias=False)
            self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(gates * hidden if i < 2 else hidden) for i in range(3))

        def forward(self, x: Any) -> Any:
            h = c = x.new_zeros(x.shape[1], hidden)
            wide, hs = self.x(x), []
            if name == "layer-norm LSTM":
                wide = self.norms[0](wide)
            for z in wide:
                if name == "layer-norm LSTM":
                    i, f, g, o = (z + self.norms[1](self.h(h))).chunk(4, 1)
                    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                    h = torch.sigmoid(o) * torch.tanh(self.norms[2](c))
                else:
                    i, f, o = torch.sigmoid(z + self.h(h)).chunk(3, 1)
                    c = f * c + (1 - f) * i
                    h = o * torch.tanh(c)
                hs.append(h)
            return torch.stack(hs), (h, c)

    return Loop()
