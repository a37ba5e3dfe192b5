"""Floor 2, CUDA: products by NVIDIA's cuBLAS, where it is installed and MINIGRAD_MATMUL=cublas asks for it.

Its matrices lie column by column, so C, whose rows lie side by side, is for it C^T = B^T A^T.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from minigrad.errors import DeviceError, describe
from minigrad.kernels.cuda.device import Device

if TYPE_CHECKING:
    from minigrad.kernels.cuda.matmul import Operand

_NORMAL, _TRANSPOSED = 0, 1
_WHOLE, _LONG, _POINTER = ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p
_GEMM = [_POINTER, _WHOLE, _WHOLE, _WHOLE, _WHOLE, _WHOLE, _POINTER, _POINTER, _WHOLE, _LONG, _POINTER, _WHOLE, _LONG,
         _POINTER, _POINTER, _WHOLE, _LONG, _WHOLE]  # fmt: skip

_PRODUCTS = {4: ("cublasSgemmStridedBatched", ctypes.c_float), 8: ("cublasDgemmStridedBatched", ctypes.c_double)}


def leading(step: int, other: int, near: int, far: int) -> int:
    """The leading dimension of a matrix of ``far`` columns, each ``near`` numbers side by side; 0 if it is no such."""
    if (near > 1 and step != 1) or (far > 1 and other < near) or other >= 2**31:
        return 0
    return max(other if far > 1 else near, 1)


def layout(step: int, other: int, near: int, far: int) -> tuple[int, int]:
    """(operation, leading dimension) that make a near x far matrix of what has these strides; (0, 0) if none does."""
    found = leading(step, other, near, far)
    if found:
        return _NORMAL, found
    found = leading(other, step, far, near)
    return (_TRANSPOSED, found) if found else (0, 0)


class Cublas:
    """The functions of ``library`` on a stream; ``address`` tells where in memory an array begins."""

    def __init__(self, library: Any, stream: int, address: Callable[[Any], int]):
        self.library, self.address, self.handle = library, address, ctypes.c_void_p()
        self._ask("cublasCreate_v2", ctypes.byref(self.handle))
        self._ask("cublasSetStream_v2", self.handle, ctypes.c_void_p(stream))
        for name, _ in _PRODUCTS.values():
            getattr(library, name).argtypes = _GEMM

    def _ask(self, name: str, *args: Any) -> None:
        status = getattr(self.library, name)(*args)
        if status:
            raise DeviceError(describe("cublas", f"status {status} from {name}", "0"))

    def product(self, c: Any, first: int, m: int, n: int, k: int, a: Operand, b: Operand, outer: int, inner: int,
                add: bool) -> bool:  # fmt: skip
        """C from element ``first`` on = or += A B for a batch of two axes, if the operands lie as cuBLAS wants."""
        operation_b, lead_b = layout(b.row, b.k, n, k)
        operation_a, lead_a = layout(a.k, a.row, k, m)
        if not lead_a or not lead_b or max(m, n, k, inner) >= 2**31:
            return False
        size = c.dtype.itemsize
        name, number = _PRODUCTS[size]
        one, beta = number(1), number(int(add))
        at_a, at_b, at_c = (self.address(x) + size * i for x, i in ((a.array, a.first), (b.array, b.first), (c, first)))
        for i in range(outer):
            self._ask(name, self.handle, operation_b, operation_a, n, m, k, ctypes.addressof(one),
                      at_b + size * i * b.outer, lead_b, b.inner, at_a + size * i * a.outer, lead_a, a.inner,
                      ctypes.addressof(beta), at_c + size * i * inner * m * n, max(c.strides[-2], n), m * n,
                      inner)  # fmt: skip
        return True


@cache
def of(device: Device) -> Cublas:
    """cuBLAS on the stream of a GPU."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        library = ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
    except Exception as error:
        do = "pip install 'minigrad[cublas]', or leave MINIGRAD_MATMUL unset"
        raise DeviceError(describe("cublas", f"no cuBLAS ({type(error).__name__})", "NVIDIA's library", do)) from None
    return Cublas(library, int(device.stream.handle), lambda x: x.address)  # type: ignore[attr-defined]
