"""Floor 6: CUDA kernels on a CPU, thread by thread, for tests on machines without a GPU.

``run`` executes a kernel as the hardware model allows it to be executed, and is strict where a GPU is not: reading
memory that nobody wrote, leaving an array, barriers that not all threads reach, and, with ``races=True``, accesses that
nothing orders. ``model`` and ``collective`` tell it what an instruction means. ``device()`` is an emulated GPU on top,
which runs minigrad's own CUDA backend: ``mg.tensor(x, device="cuda-sim")``.
"""

from minigrad.testing.simt.faults import (
    BoundsError, DivergenceError, EndlessError, KernelError, RaceError, UnwrittenError,
)  # fmt: skip
from minigrad.testing.simt.device import device
from minigrad.testing.simt.here import cuda
from minigrad.testing.simt.models import collective, model
from minigrad.testing.simt.runner import run
from minigrad.testing.simt import tensor  # the models of tensor cores

__all__ = [
    "BoundsError", "DivergenceError", "EndlessError", "KernelError", "RaceError", "UnwrittenError",
    "collective", "cuda", "device", "model", "run", "tensor",
]  # fmt: skip
