"""Cells that attend to a memory: states (B, S, A) which they return as they are."""

from types import SimpleNamespace

import numpy as np

import minigrad as mg


def input_feeding(p, x, state):
    """Luong et al. 2015, "general" scores, with a mask of the memory."""
    h, c, fed, keys, values, mask = state
    i, f, g, o = mg.split(mg.concat([x, fed], -1) @ p.W.T + h @ p.U.T + p.b, 4, axis=-1)
    c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
    h = mg.sigmoid(o) * mg.tanh(c)
    a = mg.softmax(mg.einsum("ba,bsa->bs", h @ p.Q.T, keys) + mask)
    fed = mg.tanh(mg.concat([h, mg.einsum("bs,bse->be", a, values)], -1) @ p.C.T)
    return (h, c, fed, keys, values, mask), (fed, a)


def coverage(p, x, state):
    """Keys and values are one memory, scores are dot products, and weights are added up; written as matrix products."""
    h, memory, seen = state
    h = mg.tanh(x @ p.V.T + h @ p.R.T)
    scores = mg.squeeze(h[:, None, :] @ mg.swapaxes(memory, 1, 2), 1)
    a = mg.softmax(scores - p.s * seen)
    context = mg.reshape(mg.expand_dims(a, 1) @ memory, h.shape)
    return (mg.tanh(h + context @ p.R.T), memory, seen + a), (h, context)


def two_layers(p, x, state):
    """Two layers, the second of which attends; the memory comes before the column, and is read twice in a step."""
    below, above, keys = state["below"], state["above"], state["keys"]
    below = mg.tanh(x @ p.V.T + below @ p.R.T)
    a = mg.sigmoid(mg.squeeze(keys @ below[:, :, None], 2))
    context = mg.squeeze(mg.expand_dims(a, 1) @ keys, 1)
    again = mg.squeeze(keys @ mg.expand_dims(context + above, -1), -1)
    above = mg.tanh(above @ p.R.T + mg.einsum("bs,bsa->ba", again, keys) * 0.1)
    return {"below": below, "above": above, "keys": keys}, above


def looked_up(p, x, state):
    """The input itself asks; a product of two rows; a memory that is not read."""
    h, keys, values, _ = state
    found = mg.einsum("bs,bse->be", mg.einsum("ba,bsa->bs", x, keys), values)
    h = mg.tanh(found @ p.T.T + h * mg.expand_dims(mg.einsum("bh,bh->b", h, h), 1) * 0.1)
    return (h, *state[1:]), h


NAMES = ["input_feeding", "coverage", "two_layers", "looked_up"]


def draw(name, rng, inputs, hidden, memory, dtype):
    """(cell, parameters, the shapes of the state behind the batch), for S = ``memory``."""

    def t(*shape):
        return mg.Tensor(np.asarray(rng.standard_normal(shape) * (shape or (1,))[-1] ** -0.5, dtype), True)

    I, H, S, A, E = inputs, hidden, memory, hidden + 1, hidden + 2
    shared = SimpleNamespace(V=t(H, I), R=t(H, H))
    if name == "input_feeding":
        p = SimpleNamespace(W=t(4 * H, I + H), U=t(4 * H, H), b=t(4 * H), Q=t(A, H), C=t(H, H + E))
        return input_feeding, p, ((H,), (H,), (H,), (S, A), (S, E), (S,))
    if name == "coverage":
        shared.s = t()
        return coverage, shared, ((H,), (S, H), (S,))
    if name == "two_layers":
        return two_layers, shared, ((H,), (H,), (S, H))  # above, below, keys
    return looked_up, SimpleNamespace(T=t(H, E)), ((H,), (S, I), (S, E), (S, 3))
