"""The machine code of kernels for all steps of a recurrence, made without a GPU: registers hold all of it."""

import cells
import numpy as np
import pytest
from cuda_code import collecting, complaints, look

import minigrad as mg
from minigrad.compiler.cuda.group import AHEAD, Shape
from minigrad.compiler.fused import Call, kernel_of
from minigrad.engine.tree import tree_map

pytestmark = pytest.mark.offline


def kernels(name, members, parts):
    """Of both passes of a cell, for a GPU."""
    cell, params, widths = cells.draw(name, np.random.default_rng(0), 3, 64, "float32")
    with collecting() as device:

        def zeros(*shape):
            return mg.tensor(np.zeros(shape, np.float32), device=device.name)

        params = tree_map(lambda t: mg.tensor(t.numpy(), device=device.name), params)
        kernel = kernel_of(Call(cell, params, zeros(2, 2, 3), tree_map(lambda n: zeros(2, n), widths)))
        shape = Shape(parts, 2, members, AHEAD // 4 * 256 // members, 256, True)
        return [(loop.kernel(shape), np.dtype("float32")) for loop in (kernel.forward.group, kernel.backward.group)]


@pytest.mark.parametrize(("name", "members"), [("lstm", 8), ("layer_norm_lstm", 4)])
def test_machine_code(name, members):
    cases = kernels(name, members, 4)
    for (kernel, _), found in zip(cases, look(cases, (9, 0, "a"))):
        assert not complaints(kernel, found)
        assert found.count("LDS.128") == 1 + members and found.count("CCTL")  # behind a barrier, L1 has nothing old
        assert "group_barrier" in kernel.text


def test_a_block_alone_waits_for_nobody():
    for kernel, _ in kernels("rnn_tanh", 4, 1):
        assert "group_barrier" not in kernel.text
