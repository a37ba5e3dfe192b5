"""Floor 3: the tensor: an array of some device, and where it came from.

The arithmetic of tensors is attached by the floor above (``ops/methods.py``); this file knows none of it.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from minigrad.errors import DeviceError, DtypeError, GraphError, MinigradError, ShapeError, describe
from minigrad.kernels import BACKENDS, beside, devices, named, on_gpu

if TYPE_CHECKING:
    from minigrad.engine.tape import Node

FLOATS = (np.dtype("float32"), np.dtype("float64"))
_DEVICE: ContextVar[str] = ContextVar("minigrad_device", default="cpu")


class device:
    """Inside ``with device("cuda"):`` tensors and modules are made on that device. DeviceError, which says what is
    missing, where it is not there.

    >>> import minigrad as mg
    >>> with mg.device("cpu"):
    ...     mg.tensor([1.0]).device
    'cpu'
    """

    def __init__(self, name: str):
        self.name = named(name).name
        self._before: list[Token] = []

    def __enter__(self) -> device:
        self._before.append(_DEVICE.set(self.name))
        return self

    def __exit__(self, *error: object) -> None:
        _DEVICE.reset(self._before.pop())


class Tensor:
    """An array with a place on the tape.

    data:           the device's array; never written to after it is made
    requires_grad:  whether cotangents flow into it
    grad:           after ``backward``, the cotangent of a leaf (a tensor that no operation made)
    node, index:    the use of an operation that made it, and which of its results it is
    """

    __slots__ = ("data", "requires_grad", "grad", "node", "index", "__weakref__")
    __array_priority__ = 1000  # array + tensor is ours, not NumPy's
    __array_ufunc__ = None

    def __init__(self, data: Any, requires_grad: bool = False, node: Node | None = None, index: int = 0):
        self.data = data
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.node = node
        self.index = index

    # ---------------------------------------------------------------- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return len(self.data.shape)

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def device(self) -> str:
        return BACKENDS[type(self.data)].name

    @property
    def is_leaf(self) -> bool:
        return self.node is None

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError(describe("len", "a tensor without axes", "at least one axis"))
        return self.shape[0]

    def __repr__(self) -> str:
        if self.device == "abstract":
            return f"tensor({self.data!r})"
        values = np.array2string(self.numpy(), precision=4, separator=", ", threshold=20, prefix="tensor(")
        extra = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        extra += "" if self.device == "cpu" else f", device={self.device}"
        made = f", by={self.node.op.name}" if self.node else ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({values}{extra}{made})"

    # ---------------------------------------------------------------- as numbers

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array that cannot be written to (``.copy()`` gives one that can)."""
        return BACKENDS[type(self.data)].to_numpy(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self.numpy()
        if dtype is not None and values.dtype != dtype:
            return values.astype(dtype)
        return values.copy() if copy else values

    def beside(self, array: np.ndarray) -> Tensor:
        """An array, which is not copied where that can be, as a tensor on the device of this one."""
        return Tensor(beside(self.data, array))

    def item(self) -> Any:
        """The only element as a Python number."""
        if self.size != 1:
            raise ShapeError(describe("item", f"shape {self.shape}", "one element", "index or reduce it first"))
        return self.numpy().item()

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def tolist(self) -> Any:
        return self.numpy().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    # ---------------------------------------------------------------- on the tape

    def detach(self) -> Tensor:
        """The same values, off the tape."""
        return Tensor(self.data)

    def backward(self, g: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to the ``grad`` of every leaf below; ``g`` is the cotangent, 1 for a scalar.

        The graph is freed afterwards unless it is retained. ``create_graph`` records the pass itself, so that
        the gradients can be differentiated again.
        """
        from minigrad.engine.backward import backward

        backward(self, g, retain_graph=retain_graph or create_graph, create_graph=create_graph)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise MinigradError(
            describe("tensor", "x[i] = v", "no writing into tensors", "use mg.where(mask, v, x) or mg.concat")
        )


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None, device: str | None = None) -> Tensor:
    """A tensor with a copy of ``data``: numbers, nested lists, a NumPy array, a tensor.

    Python floats become float32; NumPy arrays and tensors keep their dtype (float16 becomes float32). Only floats
    can require a gradient. Without ``device`` a tensor's copy stays on its device, everything else goes to that of
    ``with mg.device(...)``, else to the CPU.

    >>> import minigrad as mg
    >>> mg.tensor([[1, 2], [3, 4]], dtype="float64").sum()
    tensor(10., dtype=float64)
    """
    if isinstance(data, Tensor):
        device, data = device or data.device, data.numpy()
    if on_gpu(data):
        if device not in (None, "cuda"):
            do = "leave device out, or make an array of the host of it first"
            raise DeviceError(describe("tensor", f"an array on a GPU for {device!r}", "device='cuda'", do))
        backend = named("cuda")
        found = backend.from_numpy(data)
        to = _kept(np.dtype(dtype or found.dtype), requires_grad)
        return Tensor(found if found.dtype == to else backend.astype(found, to), requires_grad)
    first = data[0] if isinstance(data, (list, tuple)) and data else data
    keep = isinstance(first, (np.ndarray, np.generic, Tensor))
    try:
        array = np.asarray(data, dtype)
    except (ValueError, TypeError) as error:
        if isinstance(data, (list, tuple)) and any(isinstance(x, Tensor) for x in data):
            array = np.asarray([np.asarray(x) for x in data], dtype)
        else:
            got = f"{type(data).__name__}: {error}"
            raise ShapeError(describe("tensor", got, "numbers in a regular shape")) from None
    to = _kept(array.dtype, requires_grad)
    if array.dtype == np.float64 and not keep and dtype is None:
        to = FLOATS[0]
    array = array if array.dtype == to else array.astype(to)
    return Tensor(named(_DEVICE.get() if device is None else device).from_numpy(array), requires_grad)


def _kept(dtype: np.dtype, requires_grad: bool) -> np.dtype:
    """The dtype of a tensor with such numbers: float32 for float16, int64 for integers; or DtypeError."""
    if dtype == np.float16:
        return FLOATS[0]
    if dtype not in FLOATS and dtype.kind not in "iub":
        raise DtypeError(describe("tensor", f"dtype {dtype}", "float32, float64, integers or bool"))
    if requires_grad and dtype.kind != "f":
        do = "pass dtype='float32'"
        raise DtypeError(describe("tensor", f"requires_grad with dtype {dtype}", "float32 or float64", do))
    return np.dtype(np.int64) if dtype.kind in "iu" else dtype


def constant(where: str, value: Any, like: Any) -> Tensor:
    """``value`` as an operand beside ``like``, on its device: numbers take its dtype, arrays keep theirs."""
    if isinstance(value, np.generic) and isinstance(like, Tensor):
        value = value.item()
    if isinstance(value, (int, float, bool)) and isinstance(like, Tensor):
        dtype = like.data.dtype
        if dtype.kind in "ib" and isinstance(value, float):
            do = "cast it first: x.astype('float32')"
            raise DtypeError(describe(where, f"{dtype} and the float {value}", "one kind of number", do))
        return Tensor(BACKENDS[type(like.data)].full((), value, dtype))
    if isinstance(value, (np.ndarray, np.generic, list, tuple, int, float)):
        made = tensor(value, device="cpu" if isinstance(like, Tensor) else None)
        return like.beside(made.data) if isinstance(like, Tensor) else made
    raise DtypeError(describe(where, type(value).__name__, "a tensor, an array or a number"))


def check_cotangent(g: Tensor, y: Tensor) -> None:
    if g.device != y.device and {g.device, y.device} <= devices().keys():
        got, do = f"a cotangent on {g.device} for a result on {y.device}", f"move it with .to({y.device!r})"
        raise DeviceError(describe("backward", got, "one device", do))
    if g.shape != y.shape or g.dtype != y.dtype:
        got = f"a cotangent {g.shape} {g.dtype}"
        raise GraphError(describe("backward", got, f"the shape and dtype of the result, {y.shape} {y.dtype}"))
