"""Cost of one small operation, forward and backward: a chain of 100 on (8, 8), divided by 100."""

from __future__ import annotations

import numpy as np

import minigrad as mg
from tests.benchmarks.harness import interleave, optional, report

STEPS, START = 100, np.full((8, 8), 0.5, np.float32)


def chain(x, g, f):
    """Forward and backward; minigrad and torch are called alike."""

    def run():
        x.grad, y = None, x
        for _ in range(STEPS):
            y = f(y)
        y.backward(g)

    return run


def minigrad_chain(f):
    return chain(mg.tensor(START, requires_grad=True), mg.Tensor(np.ones_like(START)), f)


def torch_chain(torch, f):
    return chain(torch.tensor(START, requires_grad=True), torch.ones(8, 8), f)


def autograd_chain(anp, grad, f):
    def chain(y):
        for _ in range(STEPS):
            y = f(y)
        return anp.sum(y)

    gradient = grad(chain)
    return lambda: gradient(START)


def mygrad_chain(mygrad, f):
    def run():
        x = mygrad.tensor(START)
        y = x
        for _ in range(STEPS):
            y = f(y)
        y.backward(np.ones_like(START))

    return run


def main() -> None:
    torch, autograd, mygrad = optional("torch"), optional("autograd"), optional("mygrad")
    c = np.full((8, 8), 0.999, np.float32)
    own = mg.tensor(c)
    chains = {
        "tanh": {"minigrad": minigrad_chain(mg.tanh)},
        "multiply": {"minigrad": minigrad_chain(lambda y: y * own)},
    }
    if torch:
        torch_c = torch.tensor(c)
        chains["tanh"]["torch"] = torch_chain(torch, torch.tanh)
        chains["multiply"]["torch"] = torch_chain(torch, lambda y: y * torch_c)
    if autograd:
        anp = optional("autograd.numpy")
        chains["tanh"]["autograd"] = autograd_chain(anp, autograd.grad, anp.tanh)
        chains["multiply"]["autograd"] = autograd_chain(anp, autograd.grad, lambda y: y * c)
    if mygrad:
        chains["tanh"]["mygrad"] = mygrad_chain(mygrad, mygrad.tanh)
        chains["multiply"]["mygrad"] = mygrad_chain(mygrad, lambda y: y * c)
    for name, sides in chains.items():
        medians = {side: t / STEPS for side, t in interleave(sides).items()}
        report(f"{name} (8, 8), forward and backward", medians)


if __name__ == "__main__":
    main()
