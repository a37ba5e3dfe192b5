"""The machine code of matrix products: what the inner loops consist of."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="to compile CUDA kernels: pip install 'minigrad[test-cuda]'")

from cuda_code import ARCHITECTURES, complaints, look

from minigrad.kernels.cuda.tensor_cores import TENSOR_TILES, shared_bytes
from minigrad.kernels.cuda.tiles import TILES

pytestmark = pytest.mark.offline
CASES = [(k, "float32", a) for k in TILES.values() for a in ARCHITECTURES]
CASES += [(k, "float64", ARCHITECTURES[-1]) for k in TILES.values() if "float64" in k.dtypes]


@pytest.mark.parametrize(("kernel", "dtype", "capability"), CASES, ids=lambda x: getattr(x, "name", str(x)))
def test_tiles(kernel, dtype, capability):
    found = next(look([(kernel, dtype)], capability))
    assert not complaints(kernel, found)
    assert dtype == "float64" or found.registers * found.threads * 2 <= 65536  # two blocks at a time
    multiply, one = "FFMA" if dtype == "float32" else "DFMA", kernel.constants["NUMBERS"]
    assert found.count(multiply) % one == 0 and found.count(multiply) >= one
    # for each k, a thread loads R numbers of A and R of B, 16 bytes at a time
    loads = [op for op in found.opcodes if op.startswith("LDS") and op.endswith("128")]
    size = np.dtype(dtype).itemsize
    assert len(loads) == 2 * kernel.constants["R"] * size // 16 * (found.count(multiply) // one)
    assert not found.count("RED") and not found.count("ATOM")  # sums are made in one order


@pytest.mark.parametrize("capability", ARCHITECTURES[1:], ids=str)
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("kind", TENSOR_TILES)
def test_tensor_tiles(kind, size, capability):
    kernel = TENSOR_TILES[kind][size]
    found = next(look([(kernel, "float32")], capability))
    assert not complaints(kernel, found)
    assert shared_bytes(kernel) <= 99 * 1024  # what every device with these instructions has for a block
    rows = kernel.constants["ROWS"]
    assert found.count("HMMA") and found.count("HMMA") % (4 * rows) == 0  # those of a step, so often as it is unrolled
    assert found.count("LDGSTS.E.BYPASS.128") >= 2 and found.count("LDGDEPBAR") >= 2
    assert not found.count("FFMA")
