"""Cells drawn at random from the supported operations: compiled equals definition."""

import numpy as np
from cells import norm
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_cases import poisoned  # noqa: F401

import minigrad as mg
from minigrad.compiler.fused import Call, kernel_of
from minigrad.engine.tree import leaves

UNARY = {
    "tanh": mg.tanh, "sigmoid": mg.sigmoid, "softplus": mg.softplus, "gelu": mg.gelu, "neg": mg.neg,
    "half": lambda v: v * 0.5, "bounded exp": lambda v: mg.exp(mg.tanh(v)), "softmax": lambda v: mg.softmax(v, -1),
    "normalise": lambda v: norm(v, 1.0),
    "share of sum": lambda v: v / (1.0 + (v * v).sum(-1, keepdims=True)), "log": lambda v: mg.log(1.0 + v * v),
}  # fmt: skip
BINARY = {"add": mg.add, "sub": mg.sub, "mul": mg.mul, "max": mg.maximum}
WIDTHS = (3, 5)


@st.composite
def programs(draw):
    """Instructions on a pool of values that begins as [x, h]; each adds one value."""
    steps = []
    for n in range(2, 2 + draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["unary", "binary", "product", "vector", "cut", "join"]))
        name = draw(st.sampled_from(sorted(UNARY if kind == "unary" else BINARY)))
        steps.append(
            (kind, name, draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1)), draw(st.sampled_from(WIDTHS)))
        )
    return steps, draw(st.integers(0, len(steps) + 1))


def make(program, inputs, hidden, rng):
    """(cell, parameters): weights are made where the program asks for them."""
    steps, output = program
    params, widths = [], [inputs, hidden]

    def weight(*shape):
        params.append(mg.Tensor(rng.standard_normal(shape) * (shape[-1] ** -0.5 if len(shape) == 2 else 1.0), True))
        return len(params) - 1

    plan = []
    for kind, name, i, j, width in steps:
        if kind == "binary" and widths[i] != widths[j]:
            kind = "join"
        if kind == "cut" and widths[i] < 2:
            kind = "unary"
        new = {"product": width, "join": widths[i] + widths[j], "cut": widths[i] // 2}.get(kind, widths[i])
        index = weight(new, widths[i]) if kind == "product" else weight(new) if kind == "vector" else None
        plan.append((kind, name, i, j, index))
        widths.append(new)
    last = weight(hidden, widths[-1])

    def cell(p, x, h):
        pool = [x, h]
        for kind, name, i, j, index in plan:
            if kind == "unary":
                pool.append(UNARY.get(name, mg.tanh)(pool[i]))
            elif kind == "binary":
                pool.append(BINARY[name](pool[i], pool[j]))
            elif kind == "product":
                pool.append(pool[i] @ p[index].T)
            elif kind == "vector":
                pool.append(pool[i] * p[index] + 0.1)
            elif kind == "cut":
                pool.append(pool[i][:, : pool[i].shape[1] // 2])
            else:
                pool.append(mg.concat([pool[i], pool[j]], -1))
        return mg.tanh(pool[-1] @ p[last].T), pool[output]

    return cell, params


def results(cell, params, x, h, lengths, compiled):
    inputs = [x, h, *params]
    for t in inputs:
        t.grad = None
    ys, final = mg.scan(cell, params, x, h, lengths=lengths, compiled=compiled)
    rng = np.random.default_rng(0)
    loss = sum(
        ((y * mg.Tensor(rng.standard_normal(y.shape))).sum() for y in (ys, final)), mg.tensor(0.0, dtype="float64")
    )
    loss.backward()
    return [np.asarray(y) for y in leaves(ys) + leaves(final)] + [
        np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in inputs
    ]


@settings(max_examples=max(4, settings.default.max_examples // 5))
@given(programs(), st.integers(0, 2**32 - 1))
def test_random_cell_compiled_equals_definition(program, seed):
    rng = np.random.default_rng(seed)
    inputs, hidden, T, B = 4, 6, 3, 3
    cell, params = make(program, inputs, hidden, rng)
    x, h = mg.Tensor(rng.standard_normal((T, B, inputs)), True), mg.Tensor(rng.standard_normal((B, hidden)), True)
    assert not isinstance(kernel_of(Call(cell, params, x, h)), str)
    lengths = rng.integers(0, T + 1, B)
    for a, b in zip(
        results(cell, params, x, h, lengths, True), results(cell, params, x, h, lengths, False), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
