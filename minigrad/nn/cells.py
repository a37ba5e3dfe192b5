"""Floor 5: the recurrent cells, each written as its equations: ``cell(p, x_t, state) -> (state, y_t)``.

x (B, I); h, c (B, H). Weights have a row for each unit: W (kH, I) for the input, U (kH, H) for the state,
b (kH,) one bias; the k gates lie one after another in the order in which the cell splits them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from minigrad.engine.tree import leaves, rebuild
from minigrad.nn.layers import normalised
from minigrad.ops import relu, sigmoid, split, tanh

State = tuple[Any, Any]


def rnn_tanh(p: Any, x: Any, h: Any) -> State:
    """h = tanh(W x + U h + b)."""
    h = tanh(x @ p.W.T + h @ p.U.T + p.b)
    return h, h


def rnn_relu(p: Any, x: Any, h: Any) -> State:
    """h = max(W x + U h + b, 0) (Le, Jaitly and Hinton 2015)."""
    h = relu(x @ p.W.T + h @ p.U.T + p.b)
    return h, h


def gru_before(p: Any, x: Any, h: Any) -> State:
    """The relevance gate r before the product (Cho et al. 2014); u weighs the candidate, as in the notes:

    r, u = sigmoid(W_ru x + U_ru h + b_ru);  n = tanh(W_n x + U_n (r h) + b_n);  h = u n + (1 - u) h
    """
    x_r, x_u, x_n = split(x @ p.W.T + p.b, 3, axis=-1)  # (B, H) each
    h_r, h_u = split(h @ p.U.T, 2, axis=-1)
    u = sigmoid(x_u + h_u)
    n = tanh(x_n + (sigmoid(x_r + h_r) * h) @ p.U_n.T)
    h = u * n + (1.0 - u) * h
    return h, h


def gru_after(p: Any, x: Any, h: Any) -> State:
    """The relevance gate after the product, as in cuDNN, PyTorch and Keras (whose z is 1 - u):

    r, u = sigmoid(W_ru x + U_ru h + b_ru);  n = tanh(W_n x + r (U_n h + c_n) + b_n);  h = u n + (1 - u) h
    """
    x_r, x_u, x_n = split(x @ p.W.T + p.b, 3, axis=-1)  # (B, H) each
    h_r, h_u, h_n = split(h @ p.U.T, 3, axis=-1)
    u = sigmoid(x_u + h_u)
    n = tanh(x_n + sigmoid(x_r + h_r) * (h_n + p.c))
    h = u * n + (1.0 - u) * h
    return h, h


def gru_simple(p: Any, x: Any, h: Any) -> State:
    """Without relevance gate:

    u = sigmoid(W_u x + U_u h + b_u);  n = tanh(W_n x + U_n h + b_n);  h = u n + (1 - u) h
    """
    a_u, a_n = split(x @ p.W.T + h @ p.U.T + p.b, 2, axis=-1)  # (B, H) each
    u = sigmoid(a_u)
    h = u * tanh(a_n) + (1.0 - u) * h
    return h, h


def lstm(p: Any, x: Any, state: Any) -> State:
    """(Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000)

    i, f, g, o = W x + U h + b;  c = sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c)
    """
    h, c = state
    i, f, g, o = split(x @ p.W.T + h @ p.U.T + p.b, 4, axis=-1)  # (B, H) each
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return (h, c), h


def lstm_variant(p: Any, inputs: Any, state: Any) -> State:
    """The LSTM with what the parameters and masks bring along:

    p.gain_x, p.gain_h, p.gain_c, p.bias_c:  layer normalisation of W x, U h and c (Ba, Kiros and Hinton 2016)
    p.ci, p.cf, p.co:       peepholes: the gates see c (Gers, Schraudolph and Schmidhuber 2002); no ci if coupled
    p.W of 3 H rows:        coupled gates, i = 1 - f (Greff et al. 2017)
    p.R (P, H):             projection, h = R (o tanh c) (Sak, Senior and Beaufays 2014)
    inputs (x, m):          recurrent dropout: the mask m (B, H) of a step on the candidate (Semeniuta et al. 2016)
    state (h, c, m):        variational dropout: one mask m for all steps on h (Gal and Ghahramani 2016)
    """
    x, *candidate = inputs if isinstance(inputs, tuple) else (inputs,)
    h, c, *mask = state
    a, r = x @ p.W.T, (h * mask[0] if mask else h) @ p.U.T
    if hasattr(p, "gain_x"):
        a, r = normalised(a, p.gain_x), normalised(r, p.gain_h)
    coupled = p.W.shape[0] == 3 * c.shape[-1]
    *i, f, g, o = split(a + r + p.b, 3 if coupled else 4, axis=-1)  # (B, H) each
    if hasattr(p, "cf"):
        i, f = [gate + p.ci * c for gate in i], f + p.cf * c
    f, g = sigmoid(f), tanh(g)
    c = f * c + (1.0 - f if coupled else sigmoid(i[0])) * (g * candidate[0] if candidate else g)
    if hasattr(p, "cf"):
        o = o + p.co * c
    h = sigmoid(o) * tanh(normalised(c, p.gain_c) + p.bias_c if hasattr(p, "gain_c") else c)
    if hasattr(p, "R"):
        h = h @ p.R.T
    return (h, c, *mask), h


@cache
def with_zoneout(cell: Callable) -> Callable:
    """``cell`` with part of its state kept from the step before (Krueger et al. 2017):

    s = z s_before + (1 - z) s_new;  inputs (x, z): masks z, one for each state; or in evaluation p = (p, z), a number
    """

    def zoned(p: Any, inputs: Any, state: Any) -> State:
        p, z = p if isinstance(p, tuple) else (p, None)
        x, masks = (inputs, None) if z is not None else inputs
        new, _ = cell(p, x, state)
        old, made = leaves(state), leaves(new)
        for k in range(len(masks) if masks else len(made)):  # behind h and c may stand a mask, which stays
            keep = masks[k] if masks else z
            made[k] = keep * old[k] + (1.0 - keep) * made[k]
        return rebuild(new, made), made[0]

    return zoned
