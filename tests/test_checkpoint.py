"""Checkpoints: what is written comes back, a failed write loses nothing, and no file can do harm."""

import errno
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save as safetensors

import minigrad as mg
from minigrad.errors import UserError
from minigrad.nn import checkpoint, read, write

ARRAYS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7)}
META = {"step": 3, "vocabulary": ["a", "é", "\n"], "nested": {"rate": 0.1, "none": None}}


@pytest.fixture
def path(tmp_path):
    """A checkpoint."""
    path = tmp_path / "model.safetensors"
    write(path, ARRAYS, META)
    return path


def assert_intact(path):
    """The checkpoint is as it was written, and nothing lies beside it."""
    arrays, meta = read(path)
    assert meta == META
    np.testing.assert_array_equal(arrays["w"], ARRAYS["w"])
    assert os.listdir(path.parent) == [path.name]


# ------------------------------------------------------------------------------------------------------ round trip


@pytest.mark.parametrize(
    "array",
    [
        np.float32([[1.5, np.nan], [np.inf, -0.0]]),
        np.arange(4.0),
        np.array(2.5, np.float32),
        np.zeros((0, 3)),
        np.arange(3),
        np.array([True, False]),
        np.arange(6.0).reshape(2, 3).T,
        np.arange(12.0)[::-2],
    ],
    ids=["specials", "float64", "no axes", "empty", "integers", "booleans", "transposed", "strided"],
)
def test_arrays_come_back_to_the_last_bit(array, tmp_path):
    write(tmp_path / "a", {"x": array}, {})
    back = read(tmp_path / "a")[0]["x"]
    assert (back.shape, back.dtype) == (array.shape, array.dtype)
    assert back.tobytes() == array.tobytes()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(meta=st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_meta_comes_back(meta, tmp_path_factory):
    path = tmp_path_factory.mktemp("meta") / "a"
    write(path, {}, meta)
    assert read(path) == ({}, meta)


def test_same_content_gives_the_same_bytes(path):
    for _ in range(10):
        write(path.with_name("other"), ARRAYS, META)
        assert path.with_name("other").read_bytes() == path.read_bytes()


def test_module_comes_back(tmp_path):
    one, other = (mg.nn.LSTM(2, 3, num_layers=2, bidirectional=True, generator=seed) for seed in (0, 1))
    mg.save(tmp_path / "a", one)
    assert mg.load(str(tmp_path / "a"), into=other) is other
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p, q)


def test_module_of_another_structure_is_an_error_and_stays_unchanged(tmp_path):
    mg.save(tmp_path / "a", mg.nn.Linear(2, 3, generator=0))
    other = mg.nn.Linear(2, 2, generator=1)
    before = other.state_dict()
    with pytest.raises(mg.errors.ShapeError, match=r"weight of shape \(3, 2\), expected \(2, 2\)"):
        mg.load(tmp_path / "a", into=other)
    np.testing.assert_array_equal(other.weight, before["weight"])


# --------------------------------------------------------------------------------------------------- failed writes


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
def test_a_failed_write_is_a_clear_error_and_keeps_the_old_file(path, monkeypatch, function, number):
    def fail(*args):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(UserError, match=rf"\[write .*model.safetensors\] got {os.strerror(number)}, expected"):
            write(path, {"w": np.zeros(5)}, {})
    assert_intact(path)


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_an_interrupted_write_keeps_the_old_file_and_goes_on_as_interrupt(path, monkeypatch, function):
    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, function, interrupt)
        with pytest.raises(KeyboardInterrupt):
            write(path, {"w": np.zeros(5)}, {})
    assert_intact(path)


def test_a_file_that_is_too_large_for_the_system_keeps_the_old_one(path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(UserError, match=os.strerror(errno.EFBIG)):
            write(path, {"w": np.zeros(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_intact(path)


def test_a_killed_write_keeps_the_old_file(path):
    code = (
        "import os, signal, sys, numpy as np; from minigrad.nn import write;"
        "os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL);"
        "write(sys.argv[1], {'w': np.zeros(5)}, {})"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode < 0
    arrays, meta = read(path)
    assert meta == META
    np.testing.assert_array_equal(arrays["w"], ARRAYS["w"])


def test_an_array_that_cannot_be_written_keeps_the_old_file(path):
    with pytest.raises(Exception, match="complex"):
        write(path, {"w": np.zeros(3, np.clongdouble)}, {})
    with pytest.raises(TypeError, match="JSON"):
        write(path, {}, {"meta": object()})
    assert_intact(path)


def test_a_folder_that_is_not_there_or_no_folder_is_a_clear_error(path):
    for place in (path.parent / "missing" / "a", path / "a"):
        with pytest.raises(UserError, match=rf"\[write {place}\] got (No such file|Not a directory)"):
            write(place, {}, {})
    assert_intact(path)


def test_a_read_only_folder_is_a_clear_error(path):
    path.parent.chmod(0o500)
    try:
        if os.access(path.parent, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(UserError, match="Permission denied, expected a folder to write in"):
            write(path, {}, {})
    finally:
        path.parent.chmod(0o700)
    assert_intact(path)


def test_a_folder_or_device_is_not_replaced(tmp_path):
    folder, pipe = tmp_path / "folder", tmp_path / "pipe"
    folder.mkdir()
    os.mkfifo(pipe)
    for place in (folder, pipe):
        with pytest.raises(UserError, match="a folder or a device, expected the name of a file"):
            write(place, {}, {})
    assert folder.is_dir() and pipe.is_fifo()


# ----------------------------------------------------------------------------------------------- permissions, links


def mode(path):
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path, mask, expected):
    before = os.umask(mask)
    try:
        write(tmp_path / "a", {}, {})
    finally:
        os.umask(before)
    assert mode(tmp_path / "a") == expected


def test_a_file_written_again_keeps_its_permissions(path):
    path.chmod(0o640)
    write(path, ARRAYS, META)
    assert mode(path) == 0o640


def test_a_link_stays_a_link_and_its_target_is_written(path):
    link = path.with_name("latest")
    link.symlink_to(path.name)
    write(link, {}, {"new": 1})
    assert link.is_symlink()
    assert read(path)[1] == {"new": 1}


# ------------------------------------------------------------------------------------------------- unreadable files


def raw(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def marked(meta, **tensors):
    """A file with our mark and the given text as meta."""
    return {"__metadata__": {checkpoint.FORMAT: meta}, **tensors}


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


FLOAT = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BAD_FILES = {
    "empty": b"",
    "text": b"To be, or not to be, that is the question.",
    "binary": bytes(range(256)) * 8,
    "pickle": pickle.dumps(Bomb()),
    "another program's": safetensors({"w": np.zeros(2)}),
    "another version": raw({"__metadata__": {"minigrad-0": "{}"}}),
    "meta is a list": raw(marked("[]")),
    "meta is no JSON": raw(marked("{")),
    "meta nested without end": raw(marked("[" * 200_000)),
    "meta with a number without end": raw(marked('{"a": ' + "1" * 10_000 + "}")),
    "data missing": raw(marked("{}", w=FLOAT)),
    "data beyond the end": raw(marked("{}", w={**FLOAT, "data_offsets": [0, 800]}), b"12345678"),
    "shape beyond memory": raw(marked("{}", w={**FLOAT, "shape": [2**40, 2**40]}), b"12345678"),
    "dtype without NumPy name": raw(marked("{}", w={"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}), b"1"),
    "header beyond the end": struct.pack("<Q", 2**40) + b"{}",
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_foreign_or_hostile_file_is_a_clear_error(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bad").write_bytes(BAD_FILES[case])
    with pytest.raises(UserError, match=r"^\[checkpoint bad\] got .*, expected .*$"):
        read("bad")
    assert os.listdir() == ["bad"]  # nothing ran


def test_every_truncation_is_a_clear_error(path):
    data = path.read_bytes()
    for n in range(len(data)):
        path.write_bytes(data[:n])
        with pytest.raises(UserError):
            read(path)


@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_damaged_byte_never_raises_anything_else(place, byte, tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / "a"
    write(path, ARRAYS, META)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] = byte
    path.write_bytes(data)
    try:
        arrays, meta = read(path)
    except UserError:
        return
    assert isinstance(meta, dict) and all(isinstance(a, np.ndarray) for a in arrays.values())


def test_a_missing_file_and_a_folder_are_clear_errors(tmp_path):
    with pytest.raises(UserError, match="got no such file, expected a file written by minigrad"):
        read(tmp_path / "missing")
    with pytest.raises(UserError, match="got a folder, expected a file written by minigrad"):
        read(tmp_path)
