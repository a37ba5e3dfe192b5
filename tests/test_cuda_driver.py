"""The driver of a GPU against a GPU made of NumPy whose kernels the emulator runs; and the names it uses are CUDA's."""

import ctypes
import gc
import inspect
import os
import re
import sys
import threading
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg

pytest.importorskip("greenlet", reason="the emulated device needs greenlet: pip install 'minigrad[simt]'")

from fake_cuda import CUDAError, CUresult, Fake

from minigrad.errors import DeviceError, DtypeError
from minigrad.kernels import BACKENDS, on_gpu, register, source
from minigrad.kernels import cuda as package
from minigrad.kernels.cuda import driver, present
from minigrad.kernels.cuda.kernel import KERNELS, Kernel
from minigrad.kernels.cuda.language import cuda
from minigrad.kernels.cuda.loops import is_aligned
from minigrad.kernels.cuda.memory import Pool, size_class

pytestmark = pytest.mark.cuda_sim
FLOAT = np.dtype("float32")
CUDA = find_spec("cuda") and find_spec("cuda.core")


def shifted(n, by, x, out):
    i = cuda.grid(1)
    while i < n:
        out[i] = x[i] + by
        i += cuda.gridsize(1)


SHIFTED = Kernel(shifted, "i8 T T* T*", threads=32)
KERNELS.remove(SHIFTED)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    made = Fake()
    for name, module in made.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(package, "compile", sys.modules["minigrad.kernels.cuda.compile"], raising=False)
    settings = replace(driver.config, cache_dir=str(tmp_path / "kernels"))
    monkeypatch.setattr(driver, "config", settings)
    monkeypatch.setattr(source, "config", settings)
    monkeypatch.setattr(present, "card", lambda: present.Card("Fake", (9, 0), (13, 0)))
    monkeypatch.setattr(present, "packages", lambda driver: None)
    driver.backend.cache_clear()
    yield made
    driver.backend.cache_clear()
    for kind in [k for k, b in BACKENDS.items() if b.name == "cuda"]:
        del BACKENDS[kind]


def gpu():
    return driver.backend().device


# ------------------------------------------------------------------------------------------------ tensors on it


@given(x=st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40), k=st.integers(1, 3))
def test_operations_and_gradients_are_those_of_the_cpu(x, k):
    fake, patch = Fake(), pytest.MonkeyPatch()
    with patch.context() as p:
        for name, module in fake.modules().items():
            p.setitem(sys.modules, name, module)
        p.setattr(package, "compile", sys.modules["minigrad.kernels.cuda.compile"], raising=False)
        p.setattr(driver, "config", replace(driver.config, cache_dir=""))
        made = driver.GpuBackend(driver.Gpu())
        register(made)
        try:
            found = {}
            for device in ("cpu", "cuda"):
                a = mg.tensor(np.array(x, FLOAT), True, device=device)
                y = mg.tanh(a) * a
                y.backward(mg.tensor(np.full(len(x), k, FLOAT), device=device))
                found[device] = y.numpy(), a.grad.numpy()
            assert y.device == "cuda"
            np.testing.assert_allclose(found["cuda"], found["cpu"], rtol=1e-5, atol=1e-6)
        finally:
            del BACKENDS[made.array_type]


def test_the_device_is_what_the_card_says(fake):
    device = gpu()
    assert device.capability == (9, 0, "a") and device.shared_limit == 232448 and device.multiprocessors == 2
    assert driver.backend() is driver.backend() and mg.tensor([1.0], device="cuda").device == "cuda"
    fake.capability = fake.capability._replace(major=8, minor=6)
    assert driver.Gpu().capability == (8, 6)


def test_launches_pass_addresses_and_numbers_and_keep_their_configuration(fake):
    device = gpu()
    x, out = device.put(np.arange(6, dtype=FLOAT)), device.empty((4,), FLOAT)
    for by in (0.5, np.float64(2.0)):
        device.launch(SHIFTED, FLOAT, 2, np.int64(4), by, x.cut((slice(2, None),)), out)
        assert np.array_equal(device.download(out), np.arange(2, 6) + FLOAT.type(by))
    first, second = (call[2] for call in fake.named("launch"))
    assert first is second and first == ((2,), None, 32, 0, False)
    assert len(fake.named("from_cubin")) == 1
    device.launch(SHIFTED, FLOAT, (np.int64(1), 1), 4, 1.0, x, out, cooperative=True)
    assert fake.named("launch")[-1][2] == ((1, 1), None, 32, 0, True)
    device.launch(SHIFTED, FLOAT, 0, 4, 1.0, x, out)
    assert len(fake.named("launch")) == 3
    with pytest.raises(ValueError, match="zip"):
        device.launch(SHIFTED, FLOAT, 1, 4, 1.0, x)


def test_configurations_do_not_pile_up(fake):
    device = gpu()
    x = device.put(np.zeros(1, FLOAT))
    device.launch(SHIFTED, FLOAT, 1, 1, 1.0, x, x)
    device._configs.update({i: None for i in range(5000)})
    device.launch(SHIFTED, FLOAT, 2, 1, 1.0, x, x)
    assert len(device._configs) == 1


def test_much_shared_memory_is_asked_for_once(fake):
    device = gpu()
    x = device.put(np.zeros(1, FLOAT))
    for shared in (1024, 48 * 1024, 100_000, 90_000, 200_000):
        device.launch(SHIFTED, FLOAT, 1, 1, 1.0, x, x, shared=shared)
    assert [c[2] for c in fake.named("cuKernelSetAttribute")] == [100_000, 200_000]


def test_graphs_run_when_they_are_launched(fake):
    device = gpu()
    x = device.put(np.zeros(3, FLOAT))
    with device.capture() as graph:
        device.launch(SHIFTED, FLOAT, 1, 3, 1.0, x, x)
        device.launch(SHIFTED, FLOAT, 1, 3, 2.0, x, x)
    assert np.array_equal(device.download(x), [0, 0, 0])
    graph.launch()
    graph.launch()
    assert np.array_equal(device.download(x), [6, 6, 6])
    assert fake.named("graph.launch") == [("graph.launch", 2)] * 2
    address = x.address
    del x
    assert device.empty((3,), FLOAT).address != address  # the graph holds its arrays


def test_time_is_that_of_events(fake):
    assert gpu().seconds(lambda: None) == 2e-3 and len(fake.named("record")) == 2
    assert super(driver.Gpu, gpu()).seconds(lambda: None) >= 0


def test_every_thread_of_the_host_says_where_it_works(fake):
    device = gpu()
    device.put(np.zeros(3, FLOAT))
    assert len(fake.named("set_current")) == 1
    thread = threading.Thread(target=lambda: device.download(device.put(np.zeros(3, FLOAT))))
    thread.start()
    thread.join()
    assert len(fake.named("set_current")) == 2


# ------------------------------------------------------------------------------------------------ memory


@given(st.integers(0, 1 << 40))
def test_size_classes_waste_at_most_an_eighth(n):
    found = size_class(n)
    assert found >= max(n, 1) and found % 512 == 0 and found <= max(n + 512, n * 9 / 8) and size_class(found) == found


def test_memory_of_dropped_arrays_is_used_again(fake):
    device = gpu()
    x = device.empty((100,), FLOAT)
    view, address = x.cut((slice(3),)), x.address
    del x
    assert device.empty((100,), FLOAT).address != address  # the view holds it
    del view
    assert device.empty((90,), FLOAT).address == address
    assert device.pool.statistics() == {"used": 0, "idle": 1024, "asked": 2, "reused": 1}


def test_what_lies_unused_has_a_limit():
    asked = []
    pool = Pool(lambda size: (asked.append(size), len(asked)), limit=1024)
    held = [pool.take(512) for _ in range(4)]
    assert pool.statistics()["used"] == 2048
    del held
    assert pool.statistics() == {"used": 0, "idle": 1024, "asked": 4, "reused": 0}
    pool.clear()
    assert pool.statistics()["idle"] == 0 and pool.take(1).size == 512


def test_memory_that_kernels_still_use_is_waited_for(fake):
    fake.late = True
    assert gpu().empty((100,), FLOAT).shape == (100,) and len(fake.named("allocate")) == 3


def test_unused_memory_makes_room_for_an_array_and_a_full_card_is_said(fake):
    device = gpu()
    for n in (300, 400):
        x = device.empty((n << 20,), np.int8)
    del x
    assert device.pool.idle_bytes == 320 << 20  # of 1 GiB half may lie unused: not both
    x = device.empty((900 << 20,), np.int8)
    assert device.pool.idle_bytes == 0
    with pytest.raises(DeviceError, match=r"got 209715200 bytes on top of \d+, expected what the GPU's memory holds"):
        device.empty((200 << 20,), np.int8)
    del x
    gc.collect()
    fake.fail["allocate"] = CUDAError("CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure")
    with pytest.raises(DeviceError, match="LAUNCH_FAILED"):
        device.empty((1 << 20,), np.int8)


# ------------------------------------------------------------------------------------------------ other packages


def test_other_packages_take_arrays_without_a_copy(fake):
    device = gpu()
    x = device.put(np.arange(12, dtype=FLOAT).reshape(3, 4))
    told = x.__cuda_array_interface__
    assert told == {"shape": (3, 4), "typestr": "<f4", "data": (x.address, False), "strides": None, "version": 3,
                    "stream": 77}  # fmt: skip
    assert x.transpose((1, 0)).__cuda_array_interface__["strides"] == (4, 16)
    assert x.cut((1,)).__cuda_array_interface__["data"][0] == x.address + 16
    assert x.__dlpack_device__() == (2, 0) and x.__dlpack__(stream=-1) == ("capsule", x.address, -1)
    assert not fake.named("sync")
    assert x.__dlpack__(stream=1) == ("capsule", x.address, 1) and x.__dlpack__() == ("capsule", x.address, None)
    assert len(fake.named("sync")) == 2  # cuda.core lets no stream wait


def test_arrays_of_other_packages_are_copied(fake):
    device = gpu()
    own = device.put(np.arange(12, dtype=FLOAT).reshape(3, 4)).transpose((1, 0))
    other = SimpleNamespace(__cuda_array_interface__=own.__cuda_array_interface__)
    x = mg.tensor(other, device="cuda")
    assert np.array_equal(x, np.arange(12).reshape(3, 4).T) and x.data.address != own.address
    assert fake.calls[-1] == ("sync",)  # the other package may write there from now on
    assert mg.tensor(other).device == "cuda"
    with pytest.raises(DeviceError, match="an array on a GPU"):
        mg.tensor(other, device="cpu")
    other.__cuda_array_interface__ = {**own.__cuda_array_interface__, "typestr": "<c8"}
    with pytest.raises(DtypeError, match="complex64 on GPU 0"):
        mg.tensor(other, device="cuda")
    other.__cuda_array_interface__ = {**own.__cuda_array_interface__, "typestr": "<f2"}
    with pytest.raises(DtypeError, match="float16 on GPU 0"):
        mg.tensor(other)
    assert on_gpu(SimpleNamespace(__dlpack_device__=lambda: (2, 0))) and not on_gpu(np.zeros(1))


def test_arrays_of_other_packages_follow_the_rules_of_dtypes(fake):
    own = gpu().put(np.arange(6, dtype=np.int32))
    other = SimpleNamespace(__cuda_array_interface__=own.__cuda_array_interface__)
    x, y = mg.tensor(other), mg.tensor(other, dtype="float64", requires_grad=True)
    assert x.dtype == np.int64 and np.array_equal(x, np.arange(6))
    assert y.dtype == np.float64 and y.requires_grad and np.array_equal(y, np.arange(6))
    with pytest.raises(DtypeError, match="requires_grad with dtype int32"):
        mg.tensor(other, requires_grad=True)


@given(first=st.integers(0, 130))
def test_arrays_of_other_packages_may_begin_anywhere(first):
    fake, patch = Fake(), pytest.MonkeyPatch()
    with patch.context() as p:
        for name, module in fake.modules().items():
            p.setitem(sys.modules, name, module)
        device = driver.Gpu()
        whole = device.put(np.zeros(200, FLOAT))
        told = whole.cut((slice(first, None),)).__cuda_array_interface__
        x = device.foreign(SimpleNamespace(__cuda_array_interface__=told))
        assert x.address == whole.address + 4 * first and is_aligned(x) == (first % 4 == 0)


def test_only_from_pinned_memory_an_upload_waits(fake):
    device = gpu()
    for fake.pinned in (False, True):
        assert np.array_equal(device.download(device.put(np.arange(3, dtype=FLOAT))), [0, 1, 2])
    assert [c[0] for c in fake.calls if c[0] in ("cuMemcpyHtoDAsync", "sync")] == [
        "cuMemcpyHtoDAsync", "sync", "cuMemcpyHtoDAsync", "sync", "sync"]  # fmt: skip


# ------------------------------------------------------------------------------------------------ machine code on disk


def test_machine_code_is_compiled_once_and_kept(fake, tmp_path):
    x = gpu().put(np.zeros(1, FLOAT))
    gpu().launch(SHIFTED, FLOAT, 1, 1, 1.0, x, x)
    driver.Gpu().launch(SHIFTED, FLOAT, 1, 1, 1.0, x, x)
    assert fake.builds == 1
    (text,), (code,) = (list((tmp_path / "kernels").glob(f"shifted*.{kind}")) for kind in ("py", "cubin"))
    assert "def run(n, by, x, out)" in text.read_text() and code.stem.startswith(text.stem)
    code.write_bytes(code.read_bytes()[:-5])  # a file that was cut off is made again
    driver.Gpu().launch(SHIFTED, FLOAT, 1, 1, 1.0, x, x)
    assert fake.builds == 2
    file = SHIFTED.file(FLOAT)
    for key in (((8, 0), 32, None), ((9, 0, "a"), 64, None), ((9, 0, "a"), 32, 40)):
        driver.machine_code(file, *key)
    assert fake.builds == 5


@pytest.mark.parametrize("folder", ["", "file/below", "locked"])
def test_a_folder_that_cannot_be_written_costs_time_and_nothing_else(fake, tmp_path, monkeypatch, folder):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "locked").mkdir(mode=0o500)
    settings = replace(driver.config, cache_dir=str(tmp_path / folder) if folder else "")
    monkeypatch.setattr(driver, "config", settings)
    monkeypatch.setattr(source, "config", settings)
    if folder == "locked" and os.access(tmp_path / "locked", os.W_OK):  # root may write everywhere
        monkeypatch.setattr(source, "write", lambda stem, text: None)
    for _ in range(2):
        assert driver.machine_code(SHIFTED.file(FLOAT), (9, 0, "a"), 32, None)
    assert fake.builds == 2


# ------------------------------------------------------------------------------------------------ errors


def test_errors_of_kernels_name_the_last_one_started(fake):
    device = gpu()
    x = device.put(np.zeros(1, FLOAT))
    device.launch(SHIFTED, FLOAT, 1, 1, 1.0, x, x)
    fake.fail["sync"] = CUDAError("CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(DeviceError, match=r"ILLEGAL_ADDRESS, in 'shifted_float32_\w+' or before it"):
        device.synchronize()
    fake.fail = {"copy out": CUresult.CUDA_ERROR_ILLEGAL_ADDRESS}
    with pytest.raises(DeviceError, match="CUDA_ERROR_ILLEGAL_ADDRESS from cuMemcpyDtoHAsync"):
        device.download(x)
    fake.fail = {"launch": CUDAError("CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE")}
    with pytest.raises(DeviceError, match="TOO_LARGE"):
        device.launch(SHIFTED, FLOAT, 1, 1, 1.0, x, x)
    fake.fail = {"from_cubin": CUDAError("CUDA_ERROR_NO_BINARY_FOR_GPU")}
    with pytest.raises(DeviceError, match="NO_BINARY_FOR_GPU while 'shifted_float64"):
        device.launch(SHIFTED, np.dtype("float64"), 1, 1, 1.0, x, x)


# ------------------------------------------------------------------------------------------------ the names are CUDA's


@pytest.mark.skipif(not CUDA, reason="needs cuda-core: pip install 'minigrad[cuda]'")
def test_the_fake_has_the_signatures_of_cuda():
    from cuda.bindings import driver as real
    from cuda.core import Device, EventOptions, LaunchConfig, ObjectCode, Stream, launch, utils

    try:
        from cuda.core.graph import Graph, GraphBuilder
    except ImportError:  # cuda-core before 1.0
        from cuda.core._graph import Graph, GraphBuilder

    def takes(function, *names):
        found = inspect.signature(function).parameters
        assert set(names) <= set(found), (function, found)

    takes(Device.allocate, "size", "stream")
    takes(ObjectCode.from_cubin, "module", "name")
    takes(ObjectCode.get_kernel, "name")
    takes(Stream.record, "event")
    takes(Graph.launch, "stream")
    takes(launch, "stream", "config", "kernel", "kernel_args")
    takes(utils.StridedMemoryView.from_any_interface, "stream_ptr")
    for owner, names in (
        (Device, "set_current create_stream create_event create_graph_builder compute_capability properties device_id"),
        (Stream, "sync handle record"), (GraphBuilder, "begin_building end_building complete"),
        (utils.StridedMemoryView, "from_cuda_array_interface __dlpack__"),
    ):  # fmt: skip
        assert all(hasattr(owner, name) for name in names.split()), owner
    for name, parameters in (
        ("cuMemcpyHtoDAsync", "dstDevice, srcHost, size_t ByteCount, hStream"),
        ("cuMemcpyDtoHAsync", "dstHost, srcDevice, size_t ByteCount, hStream"),
        ("cuKernelSetAttribute", "attrib: CUfunction_attribute, int val, kernel, dev"), ("cuMemGetInfo", ""),
    ):  # fmt: skip
        assert getattr(real, name).__doc__.split("\n")[0].replace("CUfunction_attribute attrib", "attrib") == (
            f"{name}({parameters})"
        )
    assert int(real.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) == 8
    assert EventOptions(True).timing_enabled
    told = re.findall(
        r"^ +(\w+) : ", LaunchConfig.__init__.__doc__, re.MULTILINE
    )  # it asks the driver when one is made
    assert told[:5] == ["grid", "cluster", "block", "shmem_size", "is_cooperative"]


@pytest.mark.skipif(not CUDA, reason="needs cuda-core: pip install 'minigrad[cuda]'")
def test_arguments_have_the_size_that_a_kernel_expects():
    """cuda.core's own packing of arguments: addresses and whole numbers with 64 bits, NumPy numbers as they are."""
    from cuda.core._kernel_arg_handler import ParamHolder

    array = SimpleNamespace(memory=SimpleNamespace(address=1 << 40), offset=12)
    cases = {"f4*": (array, "i8", (1 << 40) + 12), "i8": (np.int64(-7), "i8", -7), "f4": (0.1, "f4", 0.1),
             "f8": (0.1, "f8", 0.1), "i4": (-3, "i4", -3), "u4": (2**32 - 1, "u4", 2**32 - 1),
             "u8": (5, "u8", 5)}  # fmt: skip
    given = [driver._taker(kind)(x) for kind, (x, *_) in cases.items()]
    holder = ParamHolder(tuple(given))
    addresses = (ctypes.c_uint64 * len(given)).from_address(holder.ptr)
    for address, (_, dtype, expected) in zip(addresses, cases.values()):
        found = np.frombuffer(ctypes.string_at(address, np.dtype(dtype).itemsize), dtype)[0]
        assert found == np.dtype(dtype).type(expected)
