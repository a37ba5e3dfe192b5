"""Floor 5: the recurrent cells, each written as its equations: ``cell(p, x_t, state) -> (state, y_t)``.

x (B, I); h, c (B, H). Weights have a row for each unit: W (kH, I) for the input, U (kH, H) for the state,
b (kH,) one bias; the k gates lie one after another in the order in which the cell splits them.
"""

from __future__ import annotations

from typing import Any

from minigrad.engine import Tensor
from minigrad.ops import relu, sigmoid, split, tanh

State = tuple[Tensor, Any]


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
