"""A process with torch alone: builds a recurrent layer and times it when asked, so that each side has its own memory
allocator and thread pool. One JSON object a line: {"cell", "sizes", "train"} builds, {"run": n} answers n times."""

from __future__ import annotations

import json
import sys
import time

import torch


def build(cell: str, sizes: list[int], train: bool):
    T, B, I, H, layers = sizes
    torch.manual_seed(0)
    net = getattr(torch.nn, cell)(I, H, layers)
    x = torch.randn(T, B, I, requires_grad=train)
    g = torch.randn(T, B, H)

    def step():
        if not train:
            with torch.no_grad():
                net(x)
            return
        for p in (x, *net.parameters()):
            p.grad = None
        net(x)[0].backward(g)

    return step


def build_language_model(sizes: list[int]):
    """A whole training step: embedding, LSTM, linear layer, loss, clipping, Adam."""
    T, B, V, D, H, layers = sizes
    torch.manual_seed(0)
    embedding, net, head = torch.nn.Embedding(V, D), torch.nn.LSTM(D, H, layers), torch.nn.Linear(H, V)
    parameters = [*embedding.parameters(), *net.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters)
    ids = torch.randint(0, V, (T + 1, B))

    def step():
        optimizer.zero_grad()
        output, _ = net(embedding(ids[:-1]))
        torch.nn.functional.cross_entropy(head(output).reshape(-1, V), ids[1:].reshape(-1)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def main() -> None:
    torch.set_num_threads(2)
    step = None
    for line in sys.stdin:
        request = json.loads(line)
        if "cell" in request:
            model = request["cell"] == "language model"
            step = build_language_model(request["sizes"]) if model else build(**request)
            step()
            print("{}", flush=True)
        else:
            times = []
            step()  # threads of the side before may still be awake
            for _ in range(request["run"]):
                start = time.perf_counter()
                step()
                times.append(time.perf_counter() - start)
            print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
