"""Cells drawn at random from the supported operations: compiled equals definition."""

import numpy as np
from hypothesis import given, settings
from recurrent_cases import poisoned  # noqa: F401

import minigrad as mg
from minigrad.compiler.fused import Call, kernel_of
from minigrad.engine.tree import leaves
from minigrad.testing import strategies as mst


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
@given(cell=mst.cells(), lengths=mst.lengths(3, 3))
def test_random_cell_compiled_equals_definition(cell, lengths):
    params, x, h = cell.draw(3, 3)
    assert not isinstance(kernel_of(Call(cell.function, params, x, h)), str)
    for a, b in zip(
        results(cell.function, params, x, h, lengths, True),
        results(cell.function, params, x, h, lengths, False),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
