"""A process with torch alone, see ``harness.serve``. The three cells are written as a user writes them: a loop over the
steps, each with its own products ``x_t @ W.T + h @ U.T + b``."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.benchmarks.harness import builder, serve


def layer(cell: str, sizes: list[int], train: bool) -> Callable[[], dict]:
    T, B, I, H, layers = sizes
    torch.manual_seed(0)
    net = getattr(torch.nn, cell)(I, H, layers)
    x = torch.randn(T, B, I, requires_grad=train)
    g = torch.randn(T, B, H)

    def step() -> dict:
        if not train:
            with torch.no_grad():
                return {"y": net(x)[0]}
        for p in (x, *net.parameters()):
            p.grad = None
        y = net(x)[0]
        y.backward(g)
        return {"y": y.detach()}

    return step


def language_model(sizes: list[int], **_: Any) -> Callable[[], dict]:
    """A whole training step: embedding, LSTM, linear layer, loss, clipping, Adam."""
    T, B, V, D, H, layers = sizes
    torch.manual_seed(0)
    embedding, net, head = torch.nn.Embedding(V, D), torch.nn.LSTM(D, H, layers), torch.nn.Linear(H, V)
    parameters = [*embedding.parameters(), *net.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters)
    ids = torch.randint(0, V, (T + 1, B))

    def step() -> dict:
        optimizer.zero_grad()
        output, _ = net(embedding(ids[:-1]))
        torch.nn.functional.cross_entropy(head(output).reshape(-1, V), ids[1:].reshape(-1)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return {}

    return step


def norm(v, gain):
    return torch.nn.functional.layer_norm(v, v.shape[-1:], gain)


def layer_norm_lstm(p, x_t, h, c):
    i, f, g, o = (norm(x_t @ p.W.T, p.gx) + norm(h @ p.U.T, p.gh) + p.b).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(norm(c, p.gc)), c


def peephole_lstm(p, x_t, h, c):
    i, f, g, o = (x_t @ p.W.T + h @ p.U.T + p.b).chunk(4, -1)
    i, f = torch.sigmoid(i + p.pi * c), torch.sigmoid(f + p.pf * c)
    c = f * c + i * torch.tanh(g)
    return torch.sigmoid(o + p.po * c) * torch.tanh(c), c


def coupled_lstm(p, x_t, h, c):
    f, g, o = (x_t @ p.W.T + h @ p.U.T + p.b).chunk(3, -1)
    f = torch.sigmoid(f)
    c = f * c + (1 - f) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def user_cell(cell: str, values: str, train: bool) -> Callable[[], dict]:
    """The loop over the steps, with the arrays of a file (see ``bench_cells.draw``)."""
    with np.load(values) as file:
        arrays = {name: torch.from_numpy(a) for name, a in file.items()}
    x, g = arrays.pop("x").requires_grad_(train), arrays.pop("g")
    p = SimpleNamespace(**{name: a.requires_grad_(train) for name, a in arrays.items()})
    function = globals()[cell]

    def forward():
        h = c = torch.zeros(g.shape[1:])
        ys = []
        for x_t in x:
            h, c = function(p, x_t, h, c)
            ys.append(h)
        return torch.stack(ys)

    def step() -> dict:
        if not train:
            with torch.no_grad():
                return {"y": forward()}
        wanted = {"x": x, **vars(p)}
        for tensor in wanted.values():
            tensor.grad = None
        y = forward()
        y.backward(g)
        return {"y": y.detach(), **{name: tensor.grad for name, tensor in wanted.items()}}

    return step


if __name__ == "__main__":
    torch.set_num_threads(2)
    serve(builder(layer, language_model, user_cell))
