"""Files of word vectors: every format read and written to the bit, known by its content; bad ones in one clear line."""

import gzip
import json
import os
import struct
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from cli_cases import fails, folder_fixture, model_fixture, run, snapshot  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st

from minigrad import nn
from minigrad.errors import UserError
from minigrad.models.embed.formats import FORMATS, read_vectors, sniff, write_vectors
from minigrad.models.embed.formats.decimal import parse, render
from minigrad.models.embed.subwords import Subwords
from minigrad.models.embed.vectors import WordVectors

DATA = Path(__file__).parent / "data" / "embed"
ABOUT = json.loads((DATA / "gensim.json").read_text())
PLAIN = np.array(ABOUT["bits"], np.uint32).view(np.float32)
ODD = ["😀", "1,5", "1999", "7", "\u00a0", "\x85", "\ufeffx", "e", "-1", "nan", "</s>", "\x01", "PK\x03\x04", "GIF89a"]


def bits(x):
    return np.asarray(x, np.float32).view(np.uint32).tolist()


def same(a, b):
    return a.words == b.words and bits(a.array) == bits(b.array)


# ---------------------------------------------------------------- gensim


@pytest.mark.parametrize("name, format", {
    "gensim.txt": "word2vec-text", "gensim.bin": "word2vec-binary", "gensim.glove.txt": "glove",
    "gensim.txt.gz": "word2vec-text",
}.items())  # fmt: skip
def test_files_of_gensim(name, format):
    found = read_vectors(DATA / name)
    assert sniff(DATA / name) == format
    assert list(found.words) == ABOUT["words"] and bits(found.array) == ABOUT["bits"]


def test_a_fasttext_model_of_gensim(tmp_path):
    found = read_vectors(DATA / "gensim.fasttext.bin")
    assert sniff(DATA / "gensim.fasttext.bin") == "fasttext"
    assert list(found.words) == ABOUT["fasttext words"] and bits(found.array) == ABOUT["fasttext bits"]
    assert found.counts.tolist() == ABOUT["counts"]
    assert bits(found[ABOUT["unseen"]]) == ABOUT["unseen bits"]
    write_vectors(tmp_path / "v", found, "fasttext")
    theirs, own = (DATA / "gensim.fasttext.bin").read_bytes(), (tmp_path / "v").read_bytes()
    behind = 60 + 32  # magic, version and settings; sizes
    assert len(own) == len(theirs) and own[behind:-120] == theirs[behind:-120]  # then the output matrix


def test_the_binary_file_is_byte_for_byte_that_of_gensim(tmp_path):
    write_vectors(tmp_path / "v.bin", read_vectors(DATA / "gensim.txt"))
    assert (tmp_path / "v.bin").read_bytes() == (DATA / "gensim.bin").read_bytes()


@pytest.mark.skipif("MINIGRAD_GENSIM" not in os.environ, reason="MINIGRAD_GENSIM names a Python with gensim 4.4")
def test_gensim_reads_what_is_written_here(tmp_path):
    plain = WordVectors(ABOUT["words"], PLAIN)
    for name in ("v.txt", "v.bin", "v.txt.gz"):
        write_vectors(tmp_path / name, plain)
    write_vectors(tmp_path / "v.glove", plain, "glove")
    write_vectors(tmp_path / "plain.bin", plain, "fasttext")
    write_vectors(tmp_path / "fasttext.bin", read_vectors(DATA / "gensim.fasttext.bin"), "fasttext")
    subprocess.run([os.environ["MINIGRAD_GENSIM"], DATA / "make_gensim_vectors.py", tmp_path], check=True)


# ---------------------------------------------------------------- round trips

characters = st.characters(exclude_categories=("Cs",), exclude_characters="\0 \t\n\v\f\r")
words = st.lists(
    st.sampled_from(ODD) | st.text(characters, min_size=1, max_size=6), min_size=1, max_size=6, unique=True
)
numbers = st.floats(-(2.0**60), 2.0**60, width=32) | st.sampled_from(
    [0.0, -0.0, 1.0, 5.0, 1e-45, -1e-12, 1e15, 16777216.0]
)


@given(words, st.integers(1, 3), st.data())
def test_every_format_becomes_every_other(tmp_path_factory, some, dim, data):
    x = np.array(data.draw(st.lists(numbers, min_size=len(some) * dim, max_size=len(some) * dim)), np.float32)
    first, folder = WordVectors(some, x.reshape(-1, dim)), tmp_path_factory.mktemp("formats")
    now, names = first, data.draw(st.permutations(FORMATS))
    for name in names:
        path = folder / f"{name}.x"
        write_vectors(path, now, name)
        now = read_vectors(path)
        assert sniff(path) == ("word2vec-text" if name == "vec" else name)
        assert same(now, first), name


@given(words, st.integers(0, 2), st.integers(0, 4), st.integers(0, 5), st.sampled_from(["fasttext", "safetensors"]))
def test_subwords_and_counts_are_kept(tmp_path_factory, some, low, more, buckets, format):
    high = low + more if buckets else 0
    rows = np.random.default_rng(0).normal(size=(len(some) + buckets, 3)).astype(np.float32)
    s = Subwords(rows, some, low, high, buckets) if high else None
    first = WordVectors(some, s.vectors(some) if s else rows[: len(some)], np.arange(len(some)) + 2, s)
    path = tmp_path_factory.mktemp("subwords") / "v"
    write_vectors(path, first, format)
    for most in (None, 1):
        now, n = read_vectors(path, most), most or len(some)
        assert now.words == first.words[:n] and bits(now.array) == bits(first.array[:n])
        assert now.counts.tolist() == first.counts[:n].tolist()
        if s:
            assert vars(now.subwords.ngrams) == vars(s.ngrams) and bits(now["unseen"]) == bits(first["unseen"])


@pytest.mark.parametrize("format", FORMATS)
def test_the_first_words_and_gzip(tmp_path, format):
    first = WordVectors(ABOUT["words"], PLAIN)
    path = tmp_path / "v"
    write_vectors(path, first, format)
    assert same(read_vectors(path, most=3), WordVectors(first.words[:3], PLAIN[:3]))
    assert same(read_vectors(path, most=99), first)
    if format != "safetensors":
        write_vectors(tmp_path / "v.gz", first, format)
        assert gzip.decompress((tmp_path / "v.gz").read_bytes()) == path.read_bytes()
        assert same(read_vectors(tmp_path / "v.gz"), first) and sniff(tmp_path / "v.gz") == sniff(path)


def test_lines_as_other_programs_write_them(tmp_path):
    expected = WordVectors(["a", "b"], [[0.1, -2], [3e-5, 4]])
    for text in ("2 2\na 0.1 -2 \nb 3e-5 4 \n", "2 2\r\na 0.1 -2\r\nb 3E-05 +4.\r\n", "a\t.1 -2\nb  0.00003\t4",
                 "\ufeffa 0.1 -2\nb 3e-5 4\n\n", "a 0.10000000000000000000001 -2\nb 0.3e-4 4e0"):  # fmt: skip
        (tmp_path / "v").write_bytes(text.encode())
        assert same(read_vectors(tmp_path / "v"), expected), text
    rows = b"".join(w + struct.pack("<2f", *x) + b"\n" for w, x in ((b"a ", (0.1, -2)), (b"b ", (3e-5, 4))))
    (tmp_path / "v").write_bytes(b"2 2\n" + rows)  # the C program of word2vec ends each row
    assert same(read_vectors(tmp_path / "v"), expected)


def test_words_with_spaces_as_in_glove_840b(tmp_path):
    (tmp_path / "v").write_text("the 1 2\n. . . 3 4\nat name@domain.com 5 6\n")
    assert read_vectors(tmp_path / "v").words == ("the", "._._.", "at_name@domain.com")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_through_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    data = (DATA / "gensim.txt.gz").read_bytes()
    thread = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(data))
    thread.start()
    assert bits(read_vectors(tmp_path / "pipe").array) == ABOUT["bits"]
    thread.join()


# ---------------------------------------------------------------- numbers


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_text_gives_the_same_float32_again(some):
    x = np.array([some], np.float32)
    line = render([b"w"], x).decode()
    assert bits([np.float32(part) for part in line.split()[1:]]) == bits(x[0])
    assert all("." in part or "e" in part for part in line.split()[1:])  # no line is taken for "V D"


@given(st.from_regex(r"[+-]?([0-9]{1,12}(\.[0-9]{0,12})?|\.[0-9]{1,12})([eE][+-]?[0-9]{1,2})?", fullmatch=True))
def test_what_the_kernel_reads_is_what_numpy_reads(text):
    out, spans = np.empty((1, 1), np.float32), np.empty((1, 2), np.int64)
    line = np.frombuffer(f"w {text}\n".encode(), np.uint8)
    found, at = parse(line, 0, out, spans)
    assert (found, at) in ((0, 0), (1, len(line)))
    if found:
        with np.errstate(over="ignore"):
            assert bits(out[0]) == bits([np.float64(text).astype(np.float32)])


# ---------------------------------------------------------------- bad files

BINARY = b"2 2\na " + struct.pack("<2f", 1, 2) + b"b " + struct.pack("<2f", 3, 4)
FASTTEXT = (DATA / "gensim.fasttext.bin").read_bytes()
PRUNED = struct.pack("<q", 5)
BAD = {
    "empty": (b"", "an empty file"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "a PNG picture"),
    "a zip": (b"PK\x03\x04\x14\0\0\0", "unpack it first"),
    "a pickle": (b"\x80\x04\x95\x10\0\0\0", "save_word2vec_format"),
    "zeros": (b"\0" * 100, "other binary data"),
    "prose": (b"It is a truth universally acknowledged,\nthat a single man\n", "no word with its numbers"),
    "half a gzip": (gzip.compress(b"a 1 2\n" * 1000)[:40], "a damaged gzip file"),
    "a bad gzip": (b"\x1f\x8b\x08\0garbage of all kinds", "a damaged gzip file"),
    "too few rows": (b"3 2\na 1 2\nb 3 4\n", "got 2 rows, where the first line says 3"),
    "no rows": (b"3 2\n", "got 0 rows, where the first line says 3"),
    "a vast count": (b"999999999999999 2\na 1 2\n", "got 1 rows, where the first line says 999,999,999,999,999"),
    "too many rows": (b"1 2\na 1 2\nb 3 4\n", "line 3 behind the 1 rows"),
    "a wrong width": (b"2 3\na 1 2\nb 3 4\n", "lines of 2 numbers, where the first says 3"),
    "no width": (b"2 0\na\nb\n", "one of each at least"),
    "cut off": (b"a 1 2\nb 3 4\nc 5\n", "got 1 numbers in line 3"),
    "cut to nothing": (b"a 1 2\n\nc 5 6\n", "got nothing in line 2"),
    "no number": (b"2 2\na 1 2\nb x 4\n", "'x' in line 3"),
    "repeated": (b"a 1 2\nb 3 4\na 5 6\n", "the word 'a' in line 1 and line 3"),
    "repeated, headed": (b"3 2\na 1 2\nb 3 4\na 5 6\n", "the word 'a' in line 2 and line 4"),
    "an empty word": (b"a 1 2\n 3 4\n", "an empty word in line 2"),
    "latin-1": (b"a 1 2\ncaf\xe9 3 4\n", r"the word b'caf\xe9' in line 2, expected UTF-8; convert it with --errors"),
    "nan": (b"a 1 2\nb nan 4\n", "NaN or Inf in line 2, 'b'"),
    "overflow": (b"a 1 2\nb 3 1e39\n", "NaN or Inf in line 2, 'b'"),
    "binary, cut off": (BINARY[:-3], "an end within row 2 of 2"),
    "binary, too few": (b"3" + BINARY[1:], "an end within row 3 of 3"),
    "binary, a vast count": (b"99999999999" + BINARY[1:], "an end within row 3 of 99,999,999,999"),
    "binary, too many": (b"1" + BINARY[1:], "10 bytes behind the 1 rows"),
    "binary, a wrong width": (b"2 3" + BINARY[3:], "of 2"),
    "binary, latin-1": (BINARY.replace(b"b ", b"\xe9 "), r"the word b'\xe9' in row 2"),
    "binary, repeated": (BINARY.replace(b"b ", b"a "), "the word 'a' in row 1 and row 2"),
    "binary, empty": (BINARY.replace(b"b ", b" "), "an empty word in row 2"),
    "binary, nan": (BINARY[:-4] + struct.pack("<f", np.nan), "NaN or Inf in row 2, 'b'"),
    "fasttext, cut off": (FASTTEXT[:300], "rows, expected all of them"),
    "fasttext, cut in words": (FASTTEXT[:110], "no word in row"),
    "fasttext, cut at once": (FASTTEXT[:30], "cut off in its dictionary"),
    "fasttext, version": (FASTTEXT[:4] + b"\x0d" + FASTTEXT[5:], "version 13"),
    "fasttext, pruned": (FASTTEXT[:84] + PRUNED + FASTTEXT[92:], "a pruned model"),
    "fasttext, buckets": (FASTTEXT[:40] + b"\x29" + FASTTEXT[41:], "words + 41 buckets"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_of_vectors(folder, name):
    data, said = BAD[name]
    Path("bad").write_bytes(data)
    Path("old.txt").write_text("1 1\nkept 1.0\n")
    before = snapshot(folder)
    assert said in fails("embed", "convert", "bad", "old.txt")
    assert snapshot(folder) == before


def test_the_way_out_of_bad_words(folder):
    Path("in").write_bytes(b"caf\xe9 1 2\ncaf\xea 3 4\n 5 6\nd 7 8\n")
    said = run("embed", "convert", "in", "out.txt", "--errors", "replace")
    assert "glove, 2 words, 2 numbers each" in said.stdout and "2 rows of empty or repeated words" in said.stderr
    assert same(read_vectors("out.txt"), WordVectors(["caf\ufffd", "d"], [[1, 2], [7, 8]]))
    Path("in").write_bytes(BINARY.replace(b"b ", b"a "))
    assert read_vectors("in", errors="replace").words == ("a",)
    with pytest.raises(UserError, match="strict or replace"):
        read_vectors("in", errors="ignore")


def test_invalid_words_of_fasttext_have_the_vectors_of_their_bytes(tmp_path):
    (tmp_path / "v").write_bytes(FASTTEXT.replace("über".encode(), b"\xfcber\xfc"))
    with pytest.raises(UserError, match="UTF-8"):
        read_vectors(tmp_path / "v")
    found = read_vectors(tmp_path / "v", errors="replace")
    row = found.id("\ufffdber\ufffd")
    known = found.subwords
    assert bits(found.array[row]) == bits(known.compose([b"\xfcber\xfc"], np.array([row]))[0])


def test_other_files_of_minigrad_and_others(model):
    assert "a minigrad file of LanguageModel" in fails("embed", "convert", model, "v.txt")
    write_vectors("v.safetensors", WordVectors(["a", "b"], [[1, 2], [3, 4]], [2, 1]))
    assert "holds no word vectors" in fails("embed", "convert", "v.safetensors", model)
    Path("v.gz").write_bytes(gzip.compress(Path("v.safetensors").read_bytes()))
    assert "unpack it" in fails("embed", "convert", "v.gz", "v.txt")
    tensors, meta = nn.read("v.safetensors")
    for change in ({"counts": tensors["counts"][:1]}, {"words": tensors["words"][:1]}, {"vectors": np.zeros(2)},
                   {"rows": tensors["vectors"]}):  # fmt: skip
        nn.write("bad.safetensors", tensors | change, meta)
        assert "bad.safetensors" in fails("embed", "convert", "bad.safetensors", "v.txt")
    for about in ({"low": 1}, {"low": 1, "high": 2, "buckets": 9}, {"low": -1, "high": 2, "buckets": 0}, "x",
                  {"low": "1", "high": 2, "buckets": 0}, {"low": 1, "high": 2.0, "buckets": 0}):  # fmt: skip
        nn.write("bad.safetensors", tensors | {"rows": tensors["vectors"]}, meta | {"subwords": about})
        fails("embed", "convert", "bad.safetensors", "v.txt")
    nn.write("more.safetensors", tensors | {"training.x": np.zeros(3)}, meta | {"training": 1})
    assert read_vectors("more.safetensors").counts.tolist() == [2, 1]
    Path("v.safetensors").write_bytes(Path("v.safetensors").read_bytes()[:-5])
    assert "damaged" in fails("embed", "convert", "v.safetensors", "v.txt")
    assert not Path("v.txt").exists()


def test_convert_at_the_command_line(folder):
    Path("in.any").write_bytes((DATA / "gensim.fasttext.bin").read_bytes())
    said = run("embed", "convert", "in.any", "out.bin", "--most", 2)
    assert said.stdout.startswith("in.any: fasttext, 2 words, 5 numbers each\nout.bin: word2vec-binary, ")
    assert "without counts and subwords" in said.stderr
    run("embed", "convert", "in.any", "out.bin", "--format", "fasttext")  # vectors may be replaced
    assert same(read_vectors("out.bin"), read_vectors("in.any"))
    Path("folder").mkdir()
    Path("notes.txt").write_text("not to be lost")
    before = snapshot(folder)
    for arguments, said in {
        ("in.any", "in.any", "--format", "glove"): "a file that is read",
        ("in.any", "notes.txt"): "holds no word vectors",
        ("in.any", "out.doc"): "an ending of .txt",
        ("in.any", "out.safetensors.gz"): "leave .gz out",
        ("in.any", "nowhere/out.txt"): "no folder nowhere",
        ("in.any", "folder", "--format", "vec"): "folder",
        ("folder", "out.txt"): "a folder",
        ("missing", "out.txt"): "No such file",
        (os.devnull, "out.txt"): "a device",
        ("in.any", "out.txt", "--most", 0): "--most",
        ("in.any", "out.txt", "--format", "word"): "word2vec-text",
    }.items():
        assert said in fails("embed", "convert", *arguments)
    assert snapshot(folder) == before


def test_a_zero_byte_in_a_word_is_refused_before_writing(tmp_path):
    with pytest.raises(UserError, match="zero byte"):
        write_vectors(tmp_path / "v.bin", WordVectors(["a\0b"], [[1]]), "fasttext")
    assert not list(tmp_path.iterdir())
