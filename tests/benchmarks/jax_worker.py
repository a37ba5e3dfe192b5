"""A process with JAX alone, see ``harness.serve``: the equations of ``minigrad.nn.cells`` in ``lax.scan``, jitted.

With HOIST=1 in the environment, the products of all inputs stand before the scan; else ``x_t @ W.T`` is in each step.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks.harness import serve

HOIST = os.environ.get("HOIST") == "1"


def lstm(p, a, state):
    h, c = state
    i, f, g, o = jnp.split(a + h @ p["U"].T, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def gru_after(p, a, h):
    x_r, x_u, x_n = jnp.split(a, 3, -1)
    h_r, h_u, h_n = jnp.split(h @ p["U"].T, 3, -1)
    u = jax.nn.sigmoid(x_u + h_u)
    n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + h_r) * (h_n + p["c"]))
    h = u * n + (1 - u) * h
    return h, h


def rnn_tanh(p, a, h):
    h = jnp.tanh(a + h @ p["U"].T)
    return h, h


def build(cell: str, values: str, train: bool) -> Callable[[], dict]:
    with np.load(values) as file:
        arrays = {name: jnp.asarray(a) for name, a in file.items()}
    g, function = arrays.pop("g"), globals()[cell]
    zeros = jnp.zeros(g.shape[1:])
    start = (zeros, zeros) if cell == "lstm" else zeros

    def forward(p):
        of_input = lambda x: x @ p["W"].T + p["b"]
        if HOIST:
            return jax.lax.scan(lambda s, a: function(p, a, s), start, of_input(p["x"]))[1]
        return jax.lax.scan(lambda s, x_t: function(p, of_input(x_t), s), start, p["x"])[1]

    def loss(p):
        y = forward(p)
        return (y * g).sum(), y

    run = jax.jit(jax.value_and_grad(loss, has_aux=True) if train else forward)

    def step() -> dict:
        out = jax.block_until_ready(run(arrays))
        return {"y": out[0][1], **out[1]} if train else {"y": out}

    return step


if __name__ == "__main__":
    serve(build)
