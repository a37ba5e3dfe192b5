"""A training step of a character LSTM by its definition (T 64, B 32, D 64, H 256) against torch's fused one."""

from __future__ import annotations

import numpy as np

import minigrad as mg
from tests.benchmarks.harness import interleave, optional, report

T, B, V, D, H = 64, 32, 65, 64, 256


def minigrad_step(ids: np.ndarray):
    embedding, net, head = (
        mg.nn.Embedding(V, D, generator=0),
        mg.nn.LSTM(D, H, generator=0),
        mg.nn.Linear(H, V, generator=0),
    )
    parameters = embedding.parameters() + net.parameters() + head.parameters()
    optimizer = mg.optim.Adam(parameters)

    def step():
        optimizer.zero_grad()
        output, _ = net(embedding(ids[:-1]))
        mg.cross_entropy(head(output), ids[1:]).backward()
        mg.optim.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def torch_step(torch, ids: np.ndarray):
    embedding, net, head = torch.nn.Embedding(V, D), torch.nn.LSTM(D, H), torch.nn.Linear(H, V)
    parameters = [*embedding.parameters(), *net.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters)
    data = torch.from_numpy(ids)

    def step():
        optimizer.zero_grad()
        output, _ = net(embedding(data[:-1]))
        torch.nn.functional.cross_entropy(head(output).reshape(-1, V), data[1:].reshape(-1)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def main() -> None:
    ids = np.random.default_rng(0).integers(0, V, (T + 1, B))
    sides = {"minigrad": minigrad_step(ids)}
    if torch := optional("torch"):
        torch.set_num_threads(2)
        sides["torch"] = torch_step(torch, ids)
    report("LSTM step T 64 B 32 D 64 H 256", interleave(sides, 4.0), 1e-3, "ms")


if __name__ == "__main__":
    main()
