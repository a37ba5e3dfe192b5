"""Floor 2, CUDA: a GPU, through ``cuda.core``: its memory, its one stream, machine code from ``compile.py``.

What ``cuda.core`` lacks is asked of the driver itself (``cuda.bindings``): copies from and to NumPy's memory, more than
48 KiB of shared memory for a block, how much memory the card has.
"""

# mypy: ignore-errors

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.config import config
from minigrad.errors import DeviceError, DtypeError, describe
from minigrad.kernels import on_gpu, register, source
from minigrad.kernels.cuda import present
from minigrad.kernels.cuda.array import DeviceArray, Shape
from minigrad.kernels.cuda.backend import Backend
from minigrad.kernels.cuda.device import Device
from minigrad.kernels.cuda.kernel import File
from minigrad.kernels.cuda.memory import Memory, Pool

STATIC = 48 * 1024  # bytes of shared memory of a block for which nobody has to ask
_PACKAGES = ("numba", "numba-cuda", "llvmlite", "nvidia-nvvm", "nvidia-cuda-nvrtc", "nvidia-nvjitlink")


class GpuArray(DeviceArray):
    """An array on the GPU, which other packages can take without a copy."""

    __slots__ = ()

    @property
    def address(self) -> int:
        return self.memory.address + self.offset

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = None if self.contiguous else tuple(s * self.dtype.itemsize for s in self.strides)
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False), "strides": strides,
                "version": 3, "stream": int(self.device.stream.handle)}  # fmt: skip

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device.card.device_id  # kDLCUDA

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        """``cuda.core`` lets no stream of the consumer wait, so the host does, but where it asks not to (-1)."""
        if stream != -1:
            self.device.synchronize()
        view = self.device.utils.StridedMemoryView.from_cuda_array_interface(self, stream_ptr=-1)
        return view.__dlpack__(stream=stream, **options)


class Loaded:
    """A kernel on the device. ``shared``: bytes of dynamic shared memory that it may have so far."""

    __slots__ = ("kernel", "name", "shared", "takes")

    def __init__(self, kernel: Any, name: str, takes: Sequence[Callable]):
        self.kernel, self.name, self.takes, self.shared = kernel, name, takes, STATIC


def _address(x: GpuArray) -> int:
    return x.memory.address + x.offset


def _taker(kind: str) -> Callable[[Any], Any]:
    """What makes an argument of what is given. ``cuda.core`` passes a whole number of Python with 64 bits, as it does
    an address, and a NumPy number with those of its type."""
    if kind.endswith("*"):
        return _address
    return int if kind == "i8" else np.dtype(kind).type


class Gpu(Device):
    """The first GPU that the process may see (CUDA_VISIBLE_DEVICES chooses)."""

    name, vocabulary, threads, array_base = "cuda", "minigrad.kernels.cuda.vocabulary", 256, GpuArray

    def __init__(self) -> None:
        super().__init__()
        from cuda import core
        from cuda.bindings import driver
        from cuda.core import utils

        self.core, self.driver, self.utils = core, driver, utils
        self.card = core.Device(0)
        self._here = threading.local()
        self._enter()
        self.stream = self.card.create_stream()
        found, has = self.card.compute_capability, self.card.properties
        self.capability = (*found, "a") if found >= (9, 0) else tuple(found)
        self.multiprocessors, self.shared_limit = has.multiprocessor_count, has.max_shared_memory_per_block_optin
        self._shares = has.pageable_memory_access_uses_host_page_tables
        self._kind_of_memory = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
        _, total = self._ask("cuMemGetInfo")
        self.pool = Pool(self._buffer, total // 2)
        self._configs: dict[tuple, Any] = {}
        self._last = "none"  # the kernel that was started last

    def _enter(self) -> None:
        """A thread of the host must say once on which GPU it works."""
        if not hasattr(self._here, "ready"):
            self.card.set_current()
            self._here.ready = True

    def _ask(self, name: str, *args: Any) -> Any:
        """A function of the driver that ``cuda.core`` has not."""
        error, *found = getattr(self.driver, name)(*args)
        if int(error):
            raise self._error(f"{getattr(error, 'name', error)} from {name}")
        return found

    def _error(self, got: Any) -> DeviceError:
        """Kernels run on their own: an error shows later, so it names the last one started."""
        do = "CUDA_LAUNCH_BLOCKING=1 shows which kernel; then start again, the GPU's state is lost"
        return DeviceError(describe("cuda", f"{got}, in '{self._last}' or before it", "kernels that end well", do))

    # ------------------------------------------------------------------ memory

    def _buffer(self, size: int) -> tuple[Any, int]:
        try:
            buffer = self.card.allocate(size, stream=self.stream)
        except Exception as error:
            if "OUT_OF_MEMORY" in str(error):
                raise MemoryError(str(error)) from error
            raise self._error(error) from error
        return buffer, int(buffer.handle)

    def allocate(self, size: int) -> Memory:
        self._enter()
        try:
            with suppress(MemoryError):
                return self.pool.take(size)
            self.synchronize()  # what the pool has just given back is the driver's when the kernels before are done
            return self.pool.take(size)
        except MemoryError:
            got = f"{size} bytes on top of {self.pool.used_bytes}"
            do = "take a smaller batch, or checkpoint_every="
            raise DeviceError(describe("cuda", got, "what the GPU's memory holds", do)) from None

    def address(self, x: GpuArray) -> int:
        return _address(x)

    def upload(self, to: GpuArray, values: np.ndarray) -> None:
        """The driver has copied the values, or put them aside, when this returns; from memory that the GPU reads
        itself (pinned, or all of the host's where they share their page tables) it copies later."""
        self._enter()
        at = values.ctypes.data
        self._ask("cuMemcpyHtoDAsync", to.address, at, values.nbytes, self.stream.handle)
        unknown, _ = self.driver.cuPointerGetAttribute(self._kind_of_memory, at)  # an error, mostly
        if self._shares or not int(unknown):
            self.synchronize()

    def download(self, x: GpuArray) -> np.ndarray:
        self._enter()
        out = np.empty(x.shape, x.dtype)
        self._ask("cuMemcpyDtoHAsync", out.ctypes.data, x.address, out.nbytes, self.stream.handle)
        self.synchronize()
        return out

    def foreign(self, x: Any) -> GpuArray:
        """Another package's array on this GPU, by DLPack or ``__cuda_array_interface__``, as it lies there: memory is
        counted from a multiple of 512 bytes on, as is our own, so that the offset tells what is aligned."""
        view = self.utils.StridedMemoryView.from_any_interface(x, stream_ptr=int(self.stream.handle))
        dtype = np.dtype(view.dtype if view.dtype is not None else "V2")  # None: bfloat16 and others of no NumPy
        if dtype.kind not in "fiub" or dtype == np.float16 or view.device_id != self.card.device_id:
            got = f"{dtype} on GPU {view.device_id}"
            raise DtypeError(describe("tensor", got, f"numbers on GPU {self.card.device_id}", "convert it first"))
        at = view.ptr % 512
        return self.array_type(Memory(None, view, view.ptr - at, 0), tuple(view.shape), dtype, view.strides, at)

    # ------------------------------------------------------------------ kernels

    def compile(self, file: File, threads: int, max_registers: int | None) -> Loaded:
        self._enter()
        code = machine_code(file, self.capability, threads, max_registers)
        try:
            kernel = self.core.ObjectCode.from_cubin(code, name=file.stem).get_kernel(file.stem)
        except Exception as error:
            raise self._error(f"{error} while '{file.stem}' was loaded") from error
        return Loaded(kernel, file.stem, [_taker(kind) for kind in file.takes])

    def start(self, compiled: Loaded, grid: Shape, threads: int, args: Sequence[Any], shared: int, cooperative: bool
              ) -> None:  # fmt: skip
        self._enter()
        self._start(self.stream, compiled, grid, threads, args, shared, cooperative)

    def _start(self, where: Any, compiled: Loaded, grid: Shape, threads: int, args: Sequence[Any], shared: int,
               cooperative: bool) -> None:  # fmt: skip
        key = grid, threads, shared, cooperative
        found = self._configs.get(key)
        if found is None:
            if len(self._configs) > 4096:  # sizes that never come back must not pile up
                self._configs.clear()
            # grid, cluster, block, shared memory, cooperative: cuda-core 1.0 gave the last one another name; it takes
            # no whole numbers of NumPy
            blocks = tuple(map(int, grid))
            found = self._configs[key] = self.core.LaunchConfig(blocks, None, threads, int(shared), bool(cooperative))
        self._last = compiled.name
        if shared > compiled.shared:
            most = self.driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._ask("cuKernelSetAttribute", most, shared, compiled.kernel.handle, self.card.device_id)
            compiled.shared = shared
        given = [take(x) for take, x in zip(compiled.takes, args, strict=True)]
        try:
            self.core.launch(where, found, compiled.kernel, *given)
        except Exception as error:
            raise self._error(error) from error

    def instantiate(self, launches: list[tuple]) -> Callable[[], None]:
        self._enter()
        builder = self.card.create_graph_builder().begin_building()
        for launch in launches:
            self._start(builder, *launch)
        graph, name = builder.end_building().complete(), f"a graph of {len(launches)} kernels"

        def run() -> None:  # it holds no arrays
            self._enter()
            self._last = name
            graph.launch(self.stream)

        return run

    def synchronize(self) -> None:
        self._enter()
        try:
            self.stream.sync()
        except Exception as error:
            raise self._error(error) from error

    def seconds(self, run: Callable[[], Any]) -> float:
        """By the clock of the GPU, from events before and after."""
        self._enter()
        before, after = (self.card.create_event(self.core.EventOptions(True)) for _ in range(2))  # timed
        self.stream.record(before)
        run()
        self.stream.record(after)
        self.synchronize()
        return (after - before) / 1e3


class GpuBackend(Backend):
    def from_numpy(self, x: Any) -> GpuArray:
        if isinstance(x, self.array_type) or not on_gpu(x):
            return super().from_numpy(x)
        found = self.copy(self.device.foreign(x))
        self.device.synchronize()  # afterwards its owner may give its memory to kernels on another stream
        return found


@cache
def backend() -> GpuBackend:
    """The backend of the GPU; DeviceError, which says what is missing, where there is none."""
    found = present.card()
    problem = found if isinstance(found, present.Problem) else present.packages(found.cuda[0])
    if problem is not None:
        raise DeviceError(describe("cuda", *problem))
    made = GpuBackend(Gpu())
    register(made)
    return made


# ------------------------------------------------------------------------------------------------ machine code on disk


@cache
def _made_by() -> str:
    """Of what, besides its text, the machine code of a kernel is made: packages, and the meaning of its words."""
    parts = []
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            parts.append(f"{package} {version(package)}")
    for name in ("compile.py", "language.py", "vocabulary.py"):
        parts.append((Path(__file__).parent / name).read_text())
    return "\n".join(parts)


def machine_code(file: File, capability: tuple, threads: int, max_registers: int | None) -> bytes:
    """The cubin of a kernel, from the folder of kernels if it is there; else it is compiled and put there, beside its
    text. Behind it stands its own hash: what is damaged is made anew."""
    key = f"{capability} {threads} {max_registers}\n{_made_by()}\n{file.text}"
    name = f"{file.stem}_{hashlib.sha256(key.encode()).hexdigest()[:16]}.cubin"
    path = Path(config.cache_dir) / name if config.cache_dir else None
    with suppress(OSError):
        found = path.read_bytes() if path else b""
        if hashlib.sha256(found[:-32]).digest() == found[-32:]:
            return found[:-32]
    from minigrad.kernels.cuda.compile import build

    code = build(file.text, file.stem, file.takes, capability, threads, max_registers).cubin
    if path and source.write(file.stem, file.text):
        temporary = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
        with suppress(OSError):
            temporary.write_bytes(code + hashlib.sha256(code).digest())
            temporary.replace(path)
    return code
