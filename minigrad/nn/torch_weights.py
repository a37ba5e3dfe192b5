"""Floor 5: recurrent weights as PyTorch keeps them, turned into ours."""

from __future__ import annotations

from typing import Any

import numpy as np


def from_torch(state: dict[str, Any], gru: bool = False) -> dict[str, np.ndarray]:
    """The ``state_dict`` of a torch RNN, LSTM or GRU (``gru=True``) for ``load_state_dict`` here.

    The two biases become their sum. PyTorch's GRU weighs the old state with z; here u = 1 - z weighs the
    candidate, and since 1 - sigmoid(a) = sigmoid(-a) the rows of that gate change sign; the bias of the candidate
    inside the product stays apart as ``bias_hn``. Build the GRU with ``reset="after"``.
    """
    arrays = {name: np.asarray(value) for name, value in state.items()}
    out: dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        if name.startswith("weight_"):
            out[name] = value.copy()
        elif name.startswith("bias_ih_"):
            suffix = name.removeprefix("bias_ih_")
            hidden = arrays[f"bias_hh_{suffix}"]
            out[f"bias_{suffix}"] = value + hidden
            if gru:
                h = len(value) // 3
                out[f"bias_{suffix}"][2 * h :] = value[2 * h :]
                out[f"bias_hn_{suffix}"] = hidden[2 * h :].copy()
    if gru:
        for name, value in out.items():
            if not name.startswith("bias_hn"):
                h = len(value) // 3
                value[h : 2 * h] *= -1
    return out
