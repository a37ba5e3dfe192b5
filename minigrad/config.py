"""Floor 0: the few switches, each an environment variable read once, listed by ``minigrad info``."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path


def _default_cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or (Path.home() / ".cache" if os.environ.get("HOME") else "")
    return str(Path(base) / "minigrad") if base else ""


def _default_threads() -> str:
    """What other programs are told, where it is one number."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return told if told.isdigit() else "0"


@dataclass(frozen=True)
class Config:
    """The settings of this process.

    cache_dir:    where generated kernels and their machine code are kept; empty means in memory only
    threads:      threads for large kernels; 0 means as many as the machine has; OMP_NUM_THREADS is the default
    keep_memory:  tell the C allocator to keep freed buffers instead of returning them to the system
    matmul:       float32 products on a GPU: float32, tf32 or bf16 (relative errors of 3e-4 and 2e-3), or cublas
    vector_bits:  width of the matrix kernel's vectors; 0 means what the processor has
    """

    cache_dir: str = os.environ.get("MINIGRAD_CACHE_DIR", _default_cache())
    threads: int = int(os.environ.get("MINIGRAD_THREADS", _default_threads()))
    keep_memory: bool = os.environ.get("MINIGRAD_KEEP_MEMORY", "1") != "0"
    matmul: str = os.environ.get("MINIGRAD_MATMUL", "float32")
    vector_bits: int = int(os.environ.get("MINIGRAD_VECTOR_BITS", "0"))

    def rows(self) -> list[tuple[str, str]]:
        """Pairs of environment variable and value."""
        return [(f"MINIGRAD_{f.name.upper()}", str(getattr(self, f.name))) for f in fields(self)]


config = Config()
