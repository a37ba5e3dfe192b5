"""An RNN, a GRU and an LSTM with their backward passes in NumPy, as one writes them in a course; ``fault`` plants one.

Sequences are (T, B, I), states (B, H), weights (H, I) and (H, H); an LSTM's gates i, f, g, o lie one below the other.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# ------------------------------------------------------------------------------------------------ RNN


def rnn(x, h0, W, U, b):
    hs = [h0]
    for x_t in x:
        hs.append(np.tanh(x_t @ W.T + hs[-1] @ U.T + b))
    return np.stack(hs[1:]), (x, hs, W, U)


def rnn_backward(g, cache, fault=""):
    x, hs, W, U = cache
    dx, dW, dU, db = np.zeros_like(x), np.zeros_like(W), np.zeros_like(U), np.zeros(len(W))
    dh = np.zeros_like(hs[0])
    for t in reversed(range(len(x))):
        dh = g[t] if fault == "no carry" else dh + g[t]
        local = 1 - hs[t if fault == "the state before" else t + 1] ** 2
        da = dh * (dh * 0 + 1 if fault == "no local slope" else local)
        dW += da.T @ x[t]
        dU += da.T @ hs[t + 1 if fault == "the state after" else t]
        db += da.mean(0) if fault == "mean" else da.sum(1) if fault == "other axis" else da.sum(0)
        if fault != "last steps" or t < 3:
            dx[t] = da @ (W.T if fault == "input weights" else W)
        dh = da @ (U.T if fault == "state weights" else U)
    if fault == "factor":
        dW *= 1.0005
    if fault == "first bias":
        db = da.sum(0)
    return dx, -dh if fault == "sign" else dh, dW, dU, db


# ------------------------------------------------------------------------------------------------ GRU


def gru(x, h0, Wz, Wr, Wn, Uz, Ur, Un, bz, br, bn):
    h, steps = h0, []
    for x_t in x:
        z, r = sigmoid(x_t @ Wz.T + h @ Uz.T + bz), sigmoid(x_t @ Wr.T + h @ Ur.T + br)
        n = np.tanh(x_t @ Wn.T + (r * h) @ Un.T + bn)
        steps.append((h, z, r, n))
        h = z * n + (1 - z) * h
    ys = np.stack([h for h, *_ in steps[1:]] + [h])
    return ys, (x, steps, Wz, Wr, Wn, Uz, Ur, Un)


def gru_backward(g, cache, fault=""):
    x, steps, Wz, Wr, Wn, Uz, Ur, Un = cache
    dx, dh = np.zeros_like(x), np.zeros_like(steps[0][0])
    dW = [np.zeros_like(w) for w in (Wz, Wr, Wn)]
    dU = [np.zeros_like(u) for u in (Uz, Ur, Un)]
    db = [np.zeros(len(w)) for w in (Wz, Wr, Wn)]
    for t in reversed(range(len(x))):
        h, z, r, n = steps[t]
        dh = dh + g[t]
        dz = dh * {"candidate only": n, "sign": h - n}.get(fault, n - h) * z * (1 - z)
        dn = dh * z * (1 - n * n)
        drh = dn @ Un
        dr = drh * (n if fault == "candidate for state" else h) * r * (1 - r)
        for k, da in enumerate((dz, dr, dn)):
            dW[k] += da.T @ x[t]
            dU[k] += da.T @ (r * h if k == 2 and fault != "no reset" else h)
            db[k] += da.sum(0)
        dx[t] = dz @ Wz + dr @ Wr + dn @ Wn
        kept = 0 if fault == "nothing kept" else dh * (z if fault == "gate exchanged" else 1 - z)
        dh = kept + drh * (1 if fault == "reset not passed" else r) + dz @ Uz + (0 if fault == "no path" else dr @ Ur)
    if fault == "factor":
        db[2] *= 2
    if fault == "weights exchanged":
        dW[0], dW[1] = dW[1], dW[0]
    return dx, dh, *dW, *dU, *db


# ------------------------------------------------------------------------------------------------ LSTM


def lstm(x, h0, c0, W, U, b):
    h, c, steps, ys = h0, c0, [], []
    for x_t in x:
        i, f, g, o = np.split(x_t @ W.T + h @ U.T + b, 4, axis=-1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        steps.append((h, c, i, f, g, o))
        c = f * c + i * g
        h = o * np.tanh(c)
        ys.append(h)
    return (np.stack(ys), c), (x, steps, c, W, U)


def lstm_backward(gs, cache, fault=""):
    gy, gc = gs
    x, steps, last, W, U = cache
    dx, dW, dU, db = np.zeros_like(x), np.zeros_like(W), np.zeros_like(U), np.zeros(len(W))
    if fault == "no last state" and not gc.any():
        return dx, np.zeros_like(last), np.zeros_like(last), dW, dU, db
    dh, dc = np.zeros_like(last), np.zeros_like(last) if fault == "last state ignored" else gc.copy()
    for t in reversed(range(len(x))):
        h, c, i, f, g, o = steps[t]
        new = f * c + i * g
        tanh = np.tanh(new)
        dh = dh + gy[t]
        do = dh * (new if fault == "cell for its tanh" else tanh) * o * (1 - o)
        dc = dc + dh * o * (1 if fault == "no slope of tanh" else 1 - tanh * tanh)
        df = dc * (new if fault == "the cell after" else c) * f * (1 - f)
        di = dc * g * i * (1 - i)
        dg = dc * i * (1 - g * g) * (-1 if fault == "sign" else 1)
        gates = (di, df, do, dg) if fault == "gates exchanged" else (di, df, dg, do)
        da = np.concatenate(gates, axis=-1)
        if fault == "slightly off":
            da[:, : len(W) // 2] *= 1.0005
        dW += da.T @ x[t]
        dU += da.T @ h
        db += da.sum(0)
        dx[t] = da @ W
        dh = da @ U
        dc = dc if fault == "not forgotten" else dc * f
        if fault == "cut after two" and t == len(x) - 2:
            dh, dc = 0 * dh, 0 * dc
    if fault == "one bias":
        db[:3] = 0
    return dx, dh, dc, dW, dU, db


def sizes(shapes, seed=0):
    """Inputs of these shapes, and none of them near zero."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.3, 1.0, s) * rng.choice([-1.0, 1.0], s) for s in shapes]


T, B, I, H = 4, 3, 3, 3
RNN = sizes([(T, B, I), (B, H), (H, I), (H, H), (H,)])
GRU = sizes([(T, B, I), (B, H), *[(H, I)] * 3, *[(H, H)] * 3, *[(H,)] * 3])
LSTM = sizes([(T, B, I), (B, H), (B, H), (4 * H, I), (4 * H, H), (4 * H,)])
