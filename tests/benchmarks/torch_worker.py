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


def main() -> None:
    torch.set_num_threads(2)
    step = None
    for line in sys.stdin:
        request = json.loads(line)
        if "cell" in request:
            step = build(request["cell"], request["sizes"], request["train"])
            step()
            print("{}", flush=True)
        else:
            times = []
            for _ in range(request["run"]):
                start = time.perf_counter()
                step()
                times.append(time.perf_counter() - start)
            print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
