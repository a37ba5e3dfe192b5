"""Recurrent cells for the tests of the compiler: those of ``nn``, and others that a user might write."""

from types import SimpleNamespace

import numpy as np

import minigrad as mg
from minigrad.nn import cells


def norm(v, gain):
    centred = v - v.mean(-1, keepdims=True)
    return centred / mg.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * gain


def layer_norm_lstm(p, x, state):
    h, c = state
    i, f, g, o = mg.split(norm(x @ p.W.T, p.gx) + norm(h @ p.U.T, p.gh) + p.b, 4, axis=-1)
    c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
    h = mg.sigmoid(o) * mg.tanh(norm(c, p.gc))
    return (h, c), h


def peephole_lstm(p, x, state):
    h, c = state
    i, f, g, o = mg.split(x @ p.W.T + h @ p.U.T + p.b, 4, axis=-1)
    i, f = mg.sigmoid(i + p.pi * c), mg.sigmoid(f + p.pf * c)
    c = f * c + i * mg.tanh(g)
    h = mg.sigmoid(o + p.po * c) * mg.tanh(c)
    return (h, c), h


def coupled_lstm(p, x, state):
    h, c = state
    f, g, o = mg.split(x @ p.W.T + h @ p.U.T + p.b, 3, axis=-1)
    f = mg.sigmoid(f)
    c = f * c + (1.0 - f) * mg.tanh(g)
    h = mg.sigmoid(o) * mg.tanh(c)
    return (h, c), h


def joined(p, x, state):
    """Concatenation, two states of different widths, division, a projection, y other than h."""
    h, q = state
    v = mg.concat([x, h], -1)
    a = mg.relu(v @ p.A.T + p.a)
    b = mg.exp(-mg.relu(v @ p.B.T + q * 0.5))
    q2 = q * b + a / (1.0 + a * a)
    h2 = mg.tanh(q2 @ p.P.T + h * p.d)
    return (h2, q2), h2 * 2.0 + mg.sigmoid(h)


def softmax_memory(p, x, h):
    """Softmax, two outputs, a weight used as it is and not turned, a scalar parameter, indexing."""
    a = mg.softmax(x @ p.W + h @ p.W2, -1)
    h = mg.tanh(a @ p.V + h[..., :]) * p.s
    return h, (h, mg.concat([a[:, :1], -a], -1))


def two_products(p, x, h):
    """A product of a product of the input, and weights shared by input and state."""
    z = (x @ p.W.T) @ p.V.T + h @ p.V.T
    h = h + 0.1 * mg.tanh(z)
    return h, x * 0.5


def draw(name, rng, inputs, hidden, dtype):
    """(cell, parameters, widths of the state)"""

    def t(*shape):
        scale = shape[-1] ** -0.5 if len(shape) == 2 else 1.0
        return mg.Tensor(np.asarray(scale * rng.standard_normal(shape), dtype), True)

    I, H, Q = inputs, hidden, hidden + 3
    gates = {"rnn_tanh": 1, "rnn_relu": 1, "gru_before": 3, "gru_after": 3, "gru_simple": 2, "lstm": 4,
             "peephole_lstm": 4, "layer_norm_lstm": 4, "coupled_lstm": 3}  # fmt: skip
    cell = getattr(cells, name, None) or globals()[name]
    states = (H, H) if name.endswith("lstm") else H
    if name == "joined":
        return cell, SimpleNamespace(A=t(Q, I + H), B=t(Q, I + H), a=t(Q), P=t(H, Q), d=t(H)), (H, Q)
    if name == "softmax_memory":
        return cell, SimpleNamespace(W=t(I, H), W2=t(H, H), V=t(H, H), s=t()), H
    if name == "two_products":
        return cell, SimpleNamespace(W=t(H, I), V=t(H, H)), H
    k = gates[name]
    p = SimpleNamespace(W=t(k * H, I), U=t(k * H, H), b=t(k * H))
    if name == "gru_before":
        p.U, p.U_n = t(2 * H, H), t(H, H)
    elif name == "gru_after":
        p.c = t(H)
    elif name == "peephole_lstm":
        p.pi, p.pf, p.po = t(H), t(H), t(H)
    elif name == "layer_norm_lstm":
        p.gx, p.gh, p.gc = t(k * H), t(k * H), t(H)
    return cell, p, states


NAMES = [
    "rnn_tanh", "rnn_relu", "gru_before", "gru_after", "gru_simple", "lstm", "peephole_lstm", "layer_norm_lstm",
    "coupled_lstm", "joined", "softmax_memory", "two_products",
]  # fmt: skip
