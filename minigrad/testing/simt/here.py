"""Floor 6: where the emulator is: the launch, and the thread of it that runs now."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NoReturn


class Cuda(SimpleNamespace):
    """``cuda`` as a kernel sees it. The runner sets threadIdx, blockIdx and laneid when it goes to another thread,
    which costs less than to ask for them at every use; ``vocabulary.py`` adds the functions."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"the emulated device has no cuda.{name}")


cuda = Cuda(launch=None, thread=None, warpsize=32)
