"""More planted faults, written when the checks were done: how well causes are named where nobody tuned the naming.

Like the catalogue: the expected cause was written down before the first run, and the checks were not changed after it.
"""

import numpy as np
from fault_catalogue import Fault

RNG = np.random.default_rng(7)
Q, K, V = (RNG.uniform(-1.0, 1.0, s) for s in [(3, 4), (5, 4), (5, 4)])
X, GAMMA, BETA = RNG.uniform(0.5, 1.5, (6, 3)), RNG.uniform(0.5, 1.5, 3), RNG.uniform(-1, 1, 3)
IMAGE, KERNEL = RNG.uniform(-1, 1, (5, 6)), RNG.uniform(0.5, 1.5, (2, 3))
S = RNG.uniform(-1, 1, (4, 4))


def softmax(a):
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v):
    p = softmax(q @ k.T / 2.0)
    return p @ v, (q, k, v, p)


def attention_backward(g, cache, fault=""):
    q, k, v, p = cache
    dp = g @ v.T
    ds = p * dp if fault == "softmax without its sum" else p * (dp - (dp * p).sum(-1, keepdims=True))
    scale = 1.0 if fault == "scale" else 0.5
    dq, dk, dv = ds @ k * scale, ds.T @ q * scale, p.T @ g
    if fault == "key and value":
        dk, dv = dv, dk
    if fault == "value":
        dv = np.zeros_like(v)
    return dq, -dk if fault == "sign of the key" else dk, dv


def batch_norm(x, gamma, beta):
    m, s = x.mean(0), np.sqrt(x.var(0) + 1e-5)
    z = (x - m) / s
    return gamma * z + beta, (z, s, gamma)


def batch_norm_backward(g, cache, fault=""):
    z, s, gamma = cache
    dz = g * gamma
    if fault == "no scale":
        dz = g
    mean = 0 if fault == "no mean" else dz.mean(0)
    variance = 0 if fault == "no variance" else z * (dz * z).mean(0)
    dx = (dz - mean - variance) / s
    dgamma = (g * z).sum(0) if fault != "gamma of the first half" else (g * z)[:3].sum(0)
    dbeta = g.sum(0) / len(g) if fault == "mean of beta" else g.sum(0)
    return dx, dgamma, dbeta if fault != "beta not summed" else g.copy()


def conv(x, w):
    y = np.zeros((x.shape[0] - w.shape[0] + 1, x.shape[1] - w.shape[1] + 1))
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            y += w[i, j] * x[i : i + y.shape[0], j : j + y.shape[1]]
    return y


def conv_backward(g, x, w, fault=""):
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            k, m = (w.shape[0] - 1 - i, w.shape[1] - 1 - j) if fault == "kernel reversed" else (i, j)
            if not (fault == "last tap" and j == w.shape[1] - 1):
                dw[i, j] = (g * x[i : i + g.shape[0], j : j + g.shape[1]]).sum()
            dx[i : i + g.shape[0], j : j + g.shape[1]] += w[k, m] * g
    if fault == "last column":
        dx[:, -1] = 0
    return dx, dw


def cumulative(x):
    return np.cumsum(x, -1)


def symmetric(a, b):
    return a @ b @ a


LATER = []


def later(name, cause, forward, backward, *inputs, kind="vjp"):
    LATER.append(Fault(name, cause, kind, lambda: (forward, backward), list(inputs)))


def planted(name, forward, backward, inputs, faults, kind):
    for fault, cause in faults.items():
        later(f"{name}: {fault}", cause, forward, lambda *a, f=fault: backward(*a, fault=f), *inputs, kind=kind)


planted("attention", attention, attention_backward, [Q, K, V], {
    "softmax without its sum": "term", "scale": "factor", "key and value": "exchanged", "value": "zero",
    "sign of the key": "sign",
}, "saved")  # fmt: skip
planted("batch norm", batch_norm, batch_norm_backward, [X, GAMMA, BETA], {
    "no scale": "term", "no mean": "term", "no variance": "term", "gamma of the first half": "unbroadcast",
    "mean of beta": "factor", "beta not summed": "unbroadcast",
}, "saved")  # fmt: skip
planted(
    "convolution",
    conv,
    conv_backward,
    [IMAGE, KERNEL],
    {"kernel reversed": "transposition", "last tap": "edge", "last column": "edge"},
    "vjp",
)
later("cumsum, not reversed", "term", cumulative, lambda g, x: np.cumsum(g, -1), X)
later("cumsum over the other axis", "axis", cumulative, lambda g, x: np.cumsum(g[::-1], 0)[::-1].copy(), S)
later("outer product, transposed", "transposition", np.outer, lambda g, a, b: (g.T @ b, g.T @ a), S[0], S[1])
later("A B A, one of the two", "term", symmetric, lambda g, a, b: (g @ (b @ a).T, a.T @ g @ a.T), S, S + np.eye(4))
later(
    "A B A, B not transposed",
    "transposition",
    symmetric,
    lambda g, a, b: (g @ (b @ a).T + (a @ b).T @ g, a @ g @ a.T),
    S,
    S + np.eye(4),
)
later(
    "sort, gradient not sorted back", "transposition", np.sort, lambda g, x: g.copy(), np.array([0.3, -1.0, 2.0, 0.9])
)
later("logarithm of a sum, plain", "term", lambda x: np.log(np.exp(x).sum()), lambda g, x: g * np.exp(x), X)
later("norm without its root", "factor", lambda x: np.sqrt((x * x).sum()), lambda g, x: 2 * g * x, X)
later("quantity with a unit cotangent", "cotangent", lambda x: (x**3).sum(), lambda g, x: 3 * x**2, X)
later(
    "row maximum, to the least element",
    "transposition",
    lambda x: x.max(-1),
    lambda g, x: np.eye(3)[x.argmin(-1)] * g[:, None],
    X,
)
