"""The machine code of all CUDA kernels without a GPU: which kernels there are, and what the compiler makes of them.

``kernels()`` finds them by running every operation, its gradients and recurrent layers on a device that computes
nothing and notes what it is asked to launch. ``look`` compiles one and reads its machine code.
"""

import re
import struct
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import product, repeat
from pathlib import Path

import numpy as np
from test_ops import materialise

import minigrad as mg
from minigrad.errors import MinigradError
from minigrad.kernels import BACKENDS, register
from minigrad.kernels.cuda.backend import Backend
from minigrad.kernels.cuda.device import Device
from minigrad.kernels.cuda.kernel import KERNELS
from minigrad.kernels.cuda.language import INSTRUCTIONS
from minigrad.ops import REGISTRY

ARCHITECTURES = ((7, 5), (8, 0), (9, 0, "a"))
THREADS = 256  # of a block where the kernel leaves it open, as on a GPU
REGISTERS = 65536  # of a multiprocessor, and so of a block
SHARED = 48 * 1024  # bytes of a block that the compiler may lay out; more is asked for at the launch
TABLE = Path(__file__).resolve().parents[1] / "docs" / "cuda_kernels.md"
PACKAGES = ("numba", "numba-cuda", "nvidia-cuda-nvrtc", "nvidia-nvvm", "nvidia-nvjitlink")


class Collecting(Device):
    """A device that computes nothing and notes what it should launch."""

    name, vocabulary = "cuda-collecting", "minigrad.kernels.cuda.vocabulary"
    capability, multiprocessors, threads, shared_limit = (9, 0, "a"), 132, THREADS, 227 * 1024

    def __init__(self):
        super().__init__()
        self.seen = {}  # (name of the kernel, dtype, its file) -> kernel

    def allocate(self, size):
        return size

    def address(self, x):
        return x.offset

    def upload(self, to, values):
        pass

    def download(self, x):
        return np.zeros(x.shape, x.dtype)

    def compile(self, file, threads, max_registers):
        return file

    def start(self, compiled, grid, threads, args, shared, cooperative):
        pass

    def synchronize(self):
        pass

    def launch(self, kernel, dtype, grid, *args, **options):
        self.seen[kernel.file(dtype, self.vocabulary).stem] = kernel, np.dtype(dtype)
        super().launch(kernel, dtype, grid, *args, **options)


@contextmanager
def collecting():
    device = Collecting()
    register(Backend(device))
    try:
        yield device
    finally:
        del BACKENDS[device.array_type]


# ------------------------------------------------------------------------------------------------ which kernels

RECURRENT = (  # layers that the compiler of cells has a whole kernel for
    lambda: mg.nn.RNN(5, 7), lambda: mg.nn.GRU(5, 7), lambda: mg.nn.GRU(5, 7, reset="after"), lambda: mg.nn.LSTM(5, 7),
    lambda: mg.nn.LSTM(5, 7, bidirectional=True),
)  # fmt: skip


def _operations(dtype):
    """Every operation of the registry, in every way of calling it that the tests know."""
    for record in REGISTRY.values():
        for i, (args, attrs) in enumerate(record.cases):
            arrays, fill = materialise(np.random.default_rng(i), record, args)
            arrays = [a.astype(dtype) for a in arrays]

            def run(device, record=record, arrays=arrays, fill=fill, attrs=attrs):
                return record.function(*fill([mg.tensor(a, record.gradient, device=device) for a in arrays]), **attrs)

            yield f"{record.name}, case {i}", run


def _layers(dtype):
    for i, make in enumerate(RECURRENT):

        def run(device, make=make):
            layer = make()
            for p in layer.parameters():
                p.data = p.numpy().astype(dtype)
            layer.to(device)
            x = mg.tensor(np.zeros((4, 3, 5), dtype), True, device=device)
            return layer(x, lengths=np.array([4, 2, 0]))[0]

        yield f"recurrent layer {i}", run


def runs(dtype):
    """(name, function of a device) of all that launches kernels, small."""
    yield from _operations(dtype)
    yield from _layers(dtype)


@cache
def kernels(dtype):
    """([(kernel, dtype)], {what could not be run on a device: why})."""
    failed = {}
    with collecting() as device:
        cases = [(name, (132, 227 * 1024), run) for name, run in runs(dtype)]
        cases += [(name, few, run) for few in ((8, 400), (1, 16)) for name, run in _layers(dtype)]
        for name, (device.multiprocessors, device.shared_limit), run in cases:  # one kernel for all steps, or many
            try:
                ys = run(device.name)
                for y in ys if isinstance(ys, (tuple, list)) else (ys,):
                    if y.requires_grad:
                        y.backward(mg.tensor(np.zeros(y.shape, y.dtype), device=device.name), retain_graph=True)
            except (MinigradError, AttributeError, NotImplementedError) as error:
                failed[name] = f"{type(error).__name__}: {error}"
    found = {
        **device.seen,
        **{k.file(np.dtype(dtype)).stem: (k, np.dtype(dtype)) for k in KERNELS if dtype in k.dtypes},
    }
    return [found[stem] for stem in sorted(found)], failed


def runs_on(kernel, dtype, capability):
    """Whether the architecture has the instructions that the kernel names."""
    words = set(re.findall(r"\w+", kernel.file(np.dtype(dtype)).text))
    return all(INSTRUCTIONS[w].since <= capability[:2] for w in words & set(INSTRUCTIONS))


# ------------------------------------------------------------------------------------------------ what they become

_OPCODE = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)
_DOUBLE = re.compile(r"D(ADD|MUL|FMA|SETP|MNMX|MMA)\b|.*(F64|64H)")
_ANGLES = re.compile(r"import (sin|cos)$", re.MULTILINE)  # CUDA's reduce large angles in float64, in a local array
NOTABLE = (  # in the table: how instructions begin, and what they are
    ("HMMA", "HMMA"), ("HGMMA", "HGMMA"), ("LDG.E.128", "LDG.128"), ("STG.E.128", "STG.128"), ("LDGSTS", "LDGSTS"),
    ("LDSM", "LDSM"), ("SHFL", "SHFL"), ("BAR", "BAR"), ("MUFU", "MUFU"), ("CALL", "CALL"),
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """A compiled kernel: what ptxas says of it, and the opcodes of its machine code."""

    name: str
    dtype: str
    capability: tuple
    threads: int
    registers: int
    shared: int
    stack: int
    spills: int
    opcodes: tuple[str, ...]
    text: str = ""  # hash of the kernel's text

    def count(self, start):
        return sum(op.startswith(start) for op in self.opcodes)

    def doubles(self):
        return sorted({op for op in self.opcodes if _DOUBLE.match(op)})


def sections(cubin):
    """The machine code of an ELF file: what lies in its sections called .text..."""
    headers, size, count, names = struct.unpack_from("<Q10xHHH", cubin, 0x28)
    found = [struct.unpack_from("<IIQQQQ", cubin, headers + i * size) for i in range(count)]
    strings = found[names][4]
    return b"".join(
        cubin[at : at + n] for name, _, _, _, at, n in found if cubin[strings + name :].startswith(b".text")
    )


def opcodes(cubins, capability):
    """Of each of some kernels. nvdisasm needs a third of a second to start, so all go through it as one."""
    from cuda.pathfinder import find_nvidia_binary_utility

    codes = [sections(cubin) for cubin in cubins]
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(b"".join(codes))
        file.flush()
        command = [find_nvidia_binary_utility("nvdisasm"), "--binary", "SM" + "".join(map(str, capability))]
        text = subprocess.run([*command, file.name], capture_output=True, text=True, check=True).stdout
    found = _OPCODE.findall(text)
    assert len(found) == sum(map(len, codes)) // 16, "an instruction is 16 bytes"
    for code in codes:
        n = len(code) // 16
        yield tuple(found[:n])
        found = found[n:]


def look(cases, capability):
    """What becomes of each (kernel, dtype): a Look, or the error of the compiler as text."""
    from minigrad.kernels.cuda.compile import build

    built = []
    for kernel, dtype in cases:
        file, threads = kernel.file(np.dtype(dtype)), kernel.threads or THREADS
        try:
            built.append(build(file.text, file.stem, file.takes, capability, threads, kernel.max_registers))
        except Exception as error:
            built.append(f"{kernel.name} {np.dtype(dtype)}: {type(error).__name__} {error}")
    codes = opcodes([x.cubin for x in built if not isinstance(x, str)], capability)
    for (kernel, dtype), x in zip(cases, built):
        yield x if isinstance(x, str) else Look(
            kernel.name, np.dtype(dtype).name, capability, kernel.threads or THREADS, x.registers, x.shared, x.stack,
            x.spills, next(codes), kernel.file(np.dtype(dtype)).stem[-16:-8],
        )  # fmt: skip


def complaints(kernel, found):
    """What is wrong with the machine code of a kernel."""
    if isinstance(found, str):
        return [found]
    promises = [p for p in getattr(kernel, "promises", ()) if not found.count(p)]
    text = kernel.file(np.dtype(found.dtype)).text
    angles = _ANGLES.search(text)
    meant = found.dtype == "float64" or "f8*" in kernel.takes or angles
    doubles = [] if meant else found.doubles()
    wrong = {
        "spills": found.spills, "stack": 0 if angles else found.stack, "no promised": promises, "float64": doubles,
        "registers": found.registers if found.registers * found.threads > REGISTERS else 0,
        "shared": found.shared if found.shared > SHARED else 0,
    }  # fmt: skip
    return [f"{found.name} {found.dtype}: {what} {value}" for what, value in wrong.items() if value]


# ------------------------------------------------------------------------------------------------ the table of docs/

HEAD = """# The CUDA kernels as compiled

Every kernel that the operations, their gradients and the recurrent layers launch, compiled without a GPU by the same
path as on one, for sm_75, sm_80 and sm_90a. `tests/test_cuda_offline.py` compiles them again and asserts: no spilled
registers, no stack, no more registers than a block can have, no float64 instruction in a kernel of float32 (but for
sums that are meant to be kept in float64; CUDA's own sin and cos reduce large angles in float64 and in an array of a
thread), and the instructions that a kernel promises.

The hash of the text; registers of a thread on each architecture, where it has the kernel's instructions; bytes of
shared memory that the compiler lays out for a block; how many of some instructions the code for sm_90a has. Written by
`python tests/cuda_code.py` with
{versions}.

| kernel | text | dtype | threads | sm_75 | sm_80 | sm_90a | shared | notable instructions |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |
"""


def versions():
    return ", ".join(f"{p} {metadata.version(p)}" for p in PACKAGES)


def name(x):
    """The beginning of the row of a kernel."""
    return f"| `{x.name}` | {x.text} | {x.dtype} | {x.threads}"


def rows(text):
    """{beginning: cells behind it} of the table in a page."""
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {" | ".join(cells[:4]): [c.removesuffix(" |") for c in cells[4:]] for cells in lines}


def cells(x):
    """What the table says of a kernel on one architecture: {column: text}."""
    found = {ARCHITECTURES.index(x.capability): str(x.registers)}
    if x.capability == ARCHITECTURES[-1]:
        notes = ", ".join(f"{n} {short}" for start, short in NOTABLE if (n := x.count(start)))
        found |= {len(ARCHITECTURES): str(x.shared), len(ARCHITECTURES) + 1: notes}
    return found


def begins(kernel, dtype):
    """The beginning of the row of a kernel that is not compiled yet."""
    return f"| `{kernel.name}` | {kernel.file(dtype).stem[-16:-8]} | {dtype} | {kernel.threads or THREADS}"


def lane(dtype, capability, known):
    """{beginning: cells} of all kernels of a dtype whose rows are not ``known``, on one architecture."""
    new = [c for c in kernels(dtype)[0] if begins(*c) not in known and runs_on(*c, capability)]
    return {name(x): cells(x) for x in look(new, capability)}


def page(before):
    """The page; rows of kernels whose text has not changed come from the page before, if its versions are these."""
    known, lanes = rows(before) if versions() in before else {}, list(product(("float32", "float64"), ARCHITECTURES))
    keys = [begins(*c) for dtype in ("float32", "float64") for c in kernels(dtype)[0]]
    found = {key: known.get(key, [""] * (len(ARCHITECTURES) + 2)) for key in keys}
    with ProcessPoolExecutor() as pool:
        for row in pool.map(lane, *zip(*lanes), repeat(set(known))):
            for key, columns in row.items():
                for column, text in columns.items():
                    found[key][column] = text
    lines = sorted(" | ".join([key, *values]) + " |" for key, values in found.items())
    return HEAD.format(versions=versions()) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(page(TABLE.read_text()))
