"""A process with minigrad alone, see ``harness.serve``."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

import minigrad as mg
from tests import cells
from tests.benchmarks.harness import builder, serve


def layer(cell: str, sizes: list[int], train: bool, **options: Any) -> Callable[[], dict]:
    T, B, I, H, layers = sizes
    rng = np.random.default_rng(0)
    if cell == "GRU":
        options["reset"] = "after"
    net = getattr(mg.nn, cell)(I, H, layers, generator=0, **options)
    x = mg.tensor(rng.standard_normal((T, B, I), np.float32), requires_grad=train)
    g = mg.tensor(rng.standard_normal((T, B, H), np.float32))

    def step() -> dict:
        if not train:
            with mg.no_grad():
                return {"y": net(x)[0]}
        for p in (x, *net.parameters()):
            p.grad = None
        y = net(x)[0]
        y.backward(g)
        return {"y": y}

    return step


def language_model(sizes: list[int], **_: Any) -> Callable[[], dict]:
    """A whole training step: embedding, LSTM, linear layer, loss, clipping, Adam."""
    T, B, V, D, H, layers = sizes
    embedding = mg.nn.Embedding(V, D, sparse="SPARSE" in os.environ, generator=0)
    net, head = mg.nn.LSTM(D, H, layers, generator=0), mg.nn.Linear(H, V, generator=0)
    parameters = embedding.parameters() + net.parameters() + head.parameters()
    optimizer = mg.optim.Adam(parameters)
    ids = np.random.default_rng(0).integers(0, V, (T + 1, B))

    def step() -> dict:
        optimizer.zero_grad()
        output, _ = net(embedding(ids[:-1]))
        mg.linear_cross_entropy(output, head.weight, ids[1:], head.bias).backward()
        mg.optim.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return {}

    return step


def user_cell(cell: str, values: str, train: bool) -> Callable[[], dict]:
    """``scan`` of a cell of the tests or of ``nn``, with the arrays of a file (see ``bench_cells.draw``)."""
    with np.load(values) as file:
        arrays = dict(file)
    x, g = mg.tensor(arrays.pop("x"), requires_grad=train), mg.tensor(arrays.pop("g"))
    p = SimpleNamespace(**{name: mg.tensor(a, requires_grad=train) for name, a in arrays.items()})
    function = getattr(cells, cell, None) or getattr(mg.nn.cells, cell)
    zeros = mg.tensor(np.zeros(g.shape[1:], np.float32))
    state = (zeros, zeros) if cell.endswith("lstm") else zeros

    def step() -> dict:
        if not train:
            with mg.no_grad():
                return {"y": mg.scan(function, p, x, state)[0]}
        wanted = {"x": x, **vars(p)}
        for tensor in wanted.values():
            tensor.grad = None
        y, _ = mg.scan(function, p, x, state)
        y.backward(g)
        return {"y": y, **{name: tensor.grad for name, tensor in wanted.items()}}

    return step


if __name__ == "__main__":
    serve(builder(layer, language_model, user_cell))
