"""tanh, its gradient, softmax and sums on a million elements."""

from __future__ import annotations

import numpy as np

import minigrad as mg
from tests.benchmarks.harness import interleave, optional, report


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def main() -> None:
    torch = optional("torch")
    for dtype in ("float32", "float64"):
        x = np.random.default_rng(0).standard_normal((1000, 1000)).astype(dtype)
        own = mg.tensor(x)
        cases = {
            "tanh": (lambda own=own: mg.tanh(own), lambda x=x: np.tanh(x), "tanh"),
            "softmax": (lambda own=own: mg.softmax(own), lambda x=x: softmax(x), "softmax"),
            "sum over axis 0": (lambda own=own: mg.sum(own, 0), lambda x=x: x.sum(0), "sum"),
            "sum over axis 1": (lambda own=own: mg.sum(own, 1), lambda x=x: x.sum(1), "sum1"),
        }
        for name, (ours, numpys, kind) in cases.items():
            sides = {"minigrad": ours, "numpy": numpys}
            if torch:
                t = torch.from_numpy(x)
                sides["torch"] = {
                    "tanh": lambda t=t: torch.tanh(t),
                    "softmax": lambda t=t: torch.softmax(t, -1),
                    "sum": lambda t=t: t.sum(0),
                    "sum1": lambda t=t: t.sum(1),
                }[kind]
            report(f"{name}, {dtype} (1000, 1000)", interleave(sides, 0.8), 1e-3, "ms")
        leaf = mg.tensor(x, requires_grad=True)

        def step(leaf=leaf):
            leaf.grad = None
            mg.tanh(leaf).sum().backward()

        sides = {"minigrad": step}
        if torch:
            t = torch.tensor(x, requires_grad=True)

            def torch_step(t=t):
                t.grad = None
                torch.tanh(t).sum().backward()

            sides["torch"] = torch_step
        report(f"tanh with gradient, {dtype} (1000, 1000)", interleave(sides, 0.8), 1e-3, "ms")


if __name__ == "__main__":
    main()
