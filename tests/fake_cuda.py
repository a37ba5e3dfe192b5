"""A GPU made of NumPy behind the interface of ``cuda.core`` and ``cuda.bindings``, as far as minigrad's driver uses it.

Memory lies at made-up addresses. A "cubin" is the text of the kernel, which the emulator runs. Every call is noted in
``calls``. ``fail`` says what a call by some name shall raise.
"""

import bisect
import ctypes
import enum
import json
from collections import namedtuple
from types import ModuleType, SimpleNamespace

import numpy as np

from minigrad.testing.simt import run

Code = namedtuple("Code", "cubin entry")
Capability = namedtuple("Capability", "major minor")


class CUDAError(Exception):
    pass


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_ILLEGAL_ADDRESS = 700


class Fake:
    """One GPU: what a test looks at."""

    def __init__(self, capability=(9, 0), memory=1 << 30):
        self.capability, self.total, self.used = Capability(*capability), memory, 0
        self.calls, self.fail = [], {}
        self.builds = 0
        self.pinned = self.late = False  # the memory of the host is; memory is only found after waiting
        self.starts, self.blocks = [], {}  # addresses, and the memory there

    def note(self, name, *args):
        self.calls.append((name, *args))
        if name in self.fail:
            raise self.fail[name]

    def named(self, name):
        return [c for c in self.calls if c[0] == name]

    def memory(self, address):
        start = self.starts[bisect.bisect_right(self.starts, address) - 1]
        return self.blocks[start][address - start :]

    # ------------------------------------------------------------------ minigrad.kernels.cuda.compile

    def build(self, text, stem, takes, capability, threads=0, max_registers=None):
        self.builds += 1
        text = text.replace("minigrad.kernels.cuda.vocabulary", "minigrad.testing.simt.vocabulary")
        return Code(json.dumps([stem, takes, text]).encode(), stem)

    # ------------------------------------------------------------------ cuda.core, cuda.bindings

    def modules(self):
        """What ``sys.modules`` gets."""
        fake = self

        class Buffer:
            def __init__(self, size):
                fake.note("allocate", size)
                if fake.used + size > fake.total or (fake.late and fake.calls[-2:-1] != [("sync",)]):
                    raise CUDAError("CUDA_ERROR_OUT_OF_MEMORY: The API call failed")
                fake.used += size
                self.handle, self.size = (len(fake.starts) + 1) << 40, size
                fake.starts.append(self.handle)
                fake.blocks[self.handle] = np.full(size, 255, np.uint8)

            def __del__(self):
                if hasattr(self, "handle"):
                    fake.used -= self.size
                    fake.blocks[self.handle] = None

        class Event:
            def __sub__(self, other):
                return 2.0  # milliseconds

        class Stream:
            handle = 77

            def sync(self):
                fake.note("sync")

            def record(self, event=None, options=None):
                fake.note("record")
                return event

        class Graph:
            def __init__(self, launches):
                self.launches = launches

            def launch(self, stream):
                assert isinstance(stream, Stream)
                fake.note("graph.launch", len(self.launches))
                for launch in self.launches:
                    fake.run(*launch)

        class GraphBuilder:
            def begin_building(self, mode="relaxed"):
                self.launches = []
                return self

            def end_building(self):
                return self

            def complete(self, options=None):
                return Graph(self.launches)

        class Device:
            def __init__(self, device_id=None):
                self.device_id, self.compute_capability = device_id, fake.capability
                self.properties = SimpleNamespace(
                    multiprocessor_count=2, max_shared_memory_per_block_optin=232448,
                    pageable_memory_access_uses_host_page_tables=False)  # fmt: skip

            def set_current(self, ctx=None):
                fake.note("set_current")

            def create_stream(self, obj=None, options=None):
                return Stream()

            def create_event(self, options=None):
                assert options.timing_enabled
                return Event()

            def create_graph_builder(self):
                return GraphBuilder()

            def allocate(self, size, *, stream):
                return Buffer(size)

        class ObjectCode:
            @staticmethod
            def from_cubin(module, *, name="", symbol_mapping=None):
                code = ObjectCode()
                fake.note("from_cubin", name)
                code.stem, code.takes, text = json.loads(module)
                names = {"__name__": name}
                exec(compile(text, f"<{name}>", "exec"), names)
                code.run = names["run"]
                return code

            def get_kernel(self, name):
                assert name == self.stem
                return SimpleNamespace(code=self, handle=len(fake.calls))

        class LaunchConfig(namedtuple("LaunchConfig", "grid cluster block shmem_size is_cooperative")):
            def __init__(self, grid, *others):
                assert all(type(n) is int for n in grid)

        def launch(stream, config, kernel, *args):
            fake.note("launch", kernel.code.stem, config)
            if isinstance(stream, GraphBuilder):
                stream.launches.append((config, kernel, args))
            else:
                fake.run(config, kernel, args)

        class View:
            """StridedMemoryView of an object with __cuda_array_interface__."""

            @classmethod
            def from_any_interface(cls, obj, stream_ptr=None):
                fake.note("from_any_interface", stream_ptr)
                told = obj.__cuda_array_interface__
                strides = told["strides"]
                dtype = np.dtype(told["typestr"])
                view = cls()
                view.ptr, view.shape, view.dtype, view.device_id = told["data"][0], told["shape"], dtype, 0
                view.strides = strides and tuple(s // dtype.itemsize for s in strides)
                return view

            @classmethod
            def from_cuda_array_interface(cls, obj, stream_ptr=None):
                assert stream_ptr == -1
                return cls.from_any_interface(obj)

            def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
                return "capsule", self.ptr, stream

        def copy_in(to, at, size, stream):
            fake.note("cuMemcpyHtoDAsync", size)
            fake.memory(to)[:size] = np.frombuffer(ctypes.string_at(at, size), np.uint8)
            return (CUresult.CUDA_SUCCESS,)

        def copy_out(to, at, size, stream):
            fake.note("cuMemcpyDtoHAsync", size)
            ctypes.memmove(to, fake.memory(at)[:size].tobytes(), size)
            return (fake.fail.get("copy out", CUresult.CUDA_SUCCESS),)

        def attribute_of(attribute, at):
            return (CUresult.CUDA_SUCCESS, 1) if fake.pinned else (CUresult.CUDA_ERROR_INVALID_VALUE, None)

        def set_attribute(attribute, value, kernel, device):
            fake.note("cuKernelSetAttribute", attribute, value)
            return (CUresult.CUDA_SUCCESS,)

        core, bindings, utils = ModuleType("cuda.core"), ModuleType("cuda.bindings"), ModuleType("cuda.core.utils")
        core.Device, core.ObjectCode, core.LaunchConfig, core.launch = Device, ObjectCode, LaunchConfig, launch
        core.EventOptions, core.utils = lambda timing_enabled: SimpleNamespace(timing_enabled=timing_enabled), utils
        utils.StridedMemoryView = View
        bindings.driver = SimpleNamespace(
            cuMemcpyHtoDAsync=copy_in, cuMemcpyDtoHAsync=copy_out, cuKernelSetAttribute=set_attribute,
            cuMemGetInfo=lambda: (CUresult.CUDA_SUCCESS, fake.total - fake.used, fake.total),
            cuPointerGetAttribute=attribute_of,
            CUpointer_attribute=SimpleNamespace(CU_POINTER_ATTRIBUTE_MEMORY_TYPE=2),
            CUfunction_attribute=SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8),
        )  # fmt: skip
        parent, compiling = ModuleType("cuda"), ModuleType("minigrad.kernels.cuda.compile")
        parent.core, parent.bindings, compiling.build = core, bindings, self.build
        return {"cuda": parent, "cuda.core": core, "cuda.core.utils": utils, "cuda.bindings": bindings,
                "minigrad.kernels.cuda.compile": compiling}  # fmt: skip

    def run(self, config, kernel, args):
        given = []
        for x, kind in zip(args, kernel.code.takes, strict=True):
            if kind.endswith("*"):
                memory = self.memory(x)
                item = np.dtype(kind[:-1]).itemsize
                given.append(memory[: len(memory) // item * item].view(kind[:-1]))
            else:
                assert type(x) is (int if kind == "i8" else np.dtype(kind).type)
                given.append(x)
        run(kernel.code.run, config.grid, config.block, *given, shared=config.shmem_size)
