"""What a machine lacks of a GPU, its driver or the packages is said, with the command that mends it."""

import ctypes
import sys
from types import SimpleNamespace

import pytest

import minigrad as mg
from minigrad.errors import DeviceError
from minigrad.kernels.cuda import driver, present


class Library:
    """libcuda with one card, or none."""

    def __init__(self, error=0, count=1, capability=(9, 0), version=13000):
        self.error, self.count, self.found, self.version = error, count, dict(zip((75, 76), capability)), version

    def cuInit(self, flags):
        return self.error

    def cuDeviceGetCount(self, to):
        to._obj.value = self.count
        return 0

    def cuDeviceGet(self, to, i):
        to._obj.value = i

    def cuDeviceGetName(self, to, size, device):
        to.value = b"A card"

    def cuDeviceGetAttribute(self, to, attribute, device):
        to._obj.value = self.found[attribute]

    def cuDriverGetVersion(self, to):
        to._obj.value = self.version


PROBLEMS = {
    "no GPU (the driver answers 100)": Library(error=100),
    "a driver but no GPU": Library(count=0),
    "A card with compute capability 6.1": Library(capability=(6, 1)),
    "a driver for CUDA 11.8": Library(version=11080),
}


@pytest.mark.parametrize("got", PROBLEMS)
def test_what_is_missing_is_said(monkeypatch, got):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: PROBLEMS[got])
    found = present.card()
    assert found.got == got and found.do and present.summary() == f"{got}; {found.do}"


def test_no_driver_is_said_with_what_mends_it(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    driver.backend.cache_clear()
    with pytest.raises(DeviceError, match=r"^\[cuda\] got no NVIDIA driver .*expected an NVIDIA GPU .*; on Ubuntu: "):
        mg.tensor([1.0], device="cuda")


def test_no_package_and_no_library_are_said_with_their_extra(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(present, "find_spec", lambda name: None)
    driver.backend.cache_clear()
    with pytest.raises(DeviceError, match=r"got no numba-cuda, .*; pip install 'minigrad\[cuda\]'"):
        mg.tensor([1.0], device="cuda")
    assert present.summary().startswith("A card, compute capability 9.0, driver for CUDA 13.0; no numba-cuda: pip")
    assert present.packages(12).do == "pip install 'minigrad[cuda12]'"
    parent, finder = SimpleNamespace(), SimpleNamespace(DynamicLibNotFoundError=RuntimeError)
    monkeypatch.setitem(sys.modules, "cuda", parent)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", finder)
    monkeypatch.setattr(present, "find_spec", lambda name: name)

    def load(name):
        if name == "nvvm":
            raise RuntimeError

    finder.load_nvidia_dynamic_lib = load
    assert present.packages().got == "no library nvvm" and present.packages().do == "pip install 'minigrad[cuda]'"
    finder.load_nvidia_dynamic_lib = lambda name: None
    assert present.packages() is None
    assert present.summary() == "A card, compute capability 9.0, driver for CUDA 13.0"
