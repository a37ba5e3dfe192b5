"""A whole training step of a language model against torch's: embedding, LSTM, linear layer, loss, clipping, Adam.

"sparse" is minigrad with ``Embedding(sparse=True)``: Adam then leaves alone the rows that a step does not read, which
is another computation than torch's here. ``training fastest`` takes each side's fastest step instead of the median, for
a machine that others use too.
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

import numpy as np

import minigrad as mg
from tests.benchmarks.bench_recurrent import KEEP, Minigrad, Torch, measure
from tests.benchmarks.harness import optional

CASES = [(64, 32, 65, 64, 256, 1), (50, 50, 65, 64, 128, 2), (20, 20, 10_000, 200, 200, 2),
         (35, 20, 10_000, 650, 650, 2)]  # T, B, V, D, H, layers  # fmt: skip


class LanguageModel(Minigrad):
    def __init__(self, sparse: bool = False):
        self.sparse = sparse

    def ask(self, **request: Any) -> Any:
        if "cell" not in request:
            return super().ask(**request)
        T, B, V, D, H, layers = request["sizes"]
        embedding = mg.nn.Embedding(V, D, sparse=self.sparse, generator=0)
        net, head = mg.nn.LSTM(D, H, layers, generator=0), mg.nn.Linear(H, V, generator=0)
        parameters = embedding.parameters() + net.parameters() + head.parameters()
        optimizer = mg.optim.Adam(parameters)
        ids = np.random.default_rng(0).integers(0, V, (T + 1, B))

        def step() -> None:
            optimizer.zero_grad()
            output, _ = net(embedding(ids[:-1]))
            mg.linear_cross_entropy(output, head.weight, ids[1:], head.bias).backward()
            mg.optim.clip_grad_norm_(parameters, 1.0)
            optimizer.step()

        self.step = step
        step()
        return {}


def main() -> None:
    sides: dict[str, Any] = {"minigrad": LanguageModel(), "sparse": LanguageModel(sparse=True)}
    if optional("torch"):
        sides |= {"torch": Torch(), "torch keeping memory": Torch(**KEEP)}
    for sizes in CASES:
        T, B, V, D, H, layers = sizes
        found = measure(sides, "language model", sizes, True, min if "fastest" in sys.argv else statistics.median)
        own = found["minigrad"]
        line = "  ".join(f"{name} {t * 1e3:.2f} ms = {t / own:.2f}x" for name, t in found.items() if name != "minigrad")
        title = f"T{T} B{B} V{V} D{D} H{H} x{layers}"
        print(f"{title:34} minigrad {own * 1e3:8.2f} ms, {T * B / own:8,.0f} tokens/s   {line}", flush=True)


if __name__ == "__main__":
    main()
