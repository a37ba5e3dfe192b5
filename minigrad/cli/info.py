"""Floor 6: what ``minigrad info`` prints."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numba

from minigrad.config import config
from minigrad.kernels import devices
from minigrad.kernels.cpu.micro import vector_bits
from minigrad.kernels.cpu.parallel import workers
from minigrad.kernels.cuda import present

_LAYERS = {"tbb": "tbbpool", "omp": "omppool", "workqueue": "workqueue"}  # and their modules in numba.np.ufunc
_EXTRAS = {"plot": ("matplotlib",), "test": ("pytest", "hypothesis"), "dev": ("ruff", "mypy", "pre-commit")}


def lines() -> Iterator[str]:
    """Name and value, one pair a line."""
    for package in ("minigrad", "numpy", "numba", "llvmlite"):
        yield _row(package, _version(package) or "not installed")
    yield _row("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield _row("devices", ", ".join(devices()))
    yield _row("cuda", present.summary())
    missing = present.packages()
    compiles = f"compiled by numba-cuda {_version('numba-cuda')}"
    yield _row("cuda kernels", f"{missing.got}; {missing.do}" if missing else compiles)
    yield _row("cuda-sim", "present" if _version("greenlet") else "no greenlet; pip install 'minigrad[simt]'")
    yield _row("threads", f"{workers()} of {os.cpu_count()}, by {threading_layer()}")
    yield _row("vectors", f"{vector_bits()} bits")
    yield _row("kernel cache", _cache())
    for name, value in config.rows():
        yield _row(name, value or "(empty)")
    for extra, packages in _EXTRAS.items():
        missing = [p for p in packages if not _version(p)]
        yield _row(f"extra '{extra}'", f"missing {', '.join(missing)}" if missing else "present")


def threading_layer() -> str:
    """The first of Numba's threading layers that can be loaded, in the order in which it tries them."""
    wanted = numba.config.THREADING_LAYER
    for name in (wanted,) if wanted in _LAYERS else numba.config.THREADING_LAYER_PRIORITY:
        try:
            import_module(f"numba.np.ufunc.{_LAYERS[name]}")
        except (ImportError, KeyError):
            continue
        return name
    return f"none ({wanted} cannot be loaded)"


def _row(name: str, value: str) -> str:
    return f"{name:<22} {value}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cache() -> str:
    if not config.cache_dir:
        return "in memory only"
    files = [p for p in Path(config.cache_dir).rglob("*") if p.is_file()] if Path(config.cache_dir).is_dir() else []
    return f"{config.cache_dir} ({len(files)} files, {sum(p.stat().st_size for p in files) / 2**20:.1f} MiB)"
