"""Floor 4: mathematics. Importing this floor gives tensors their methods and the engine its arithmetic."""

from minigrad.engine import Basis, install
from minigrad.ops.elementwise import (
    abs, add, clip, cos, div, equal, erf, exp, expm1, gelu, greater, greater_equal, less, less_equal, log, log1p,
    maximum, minimum, mul, neg, not_equal, power, reciprocal, relu, sigmoid, sign, sin, softplus, sqrt, square, step,
    sub, tanh, where,
)  # fmt: skip
from minigrad.ops.head import linear_cross_entropy
from minigrad.ops.indexing import embedding, getitem, pick, scatter_add
from minigrad.ops.linalg import einsum, linear, matmul, matrix_transpose
from minigrad.ops.losses import (
    binary_cross_entropy, cross_entropy, dropout, log_softmax, logsumexp, mse, softmax,
)  # fmt: skip
from minigrad.ops.methods import astype, attach
from minigrad.ops.record import REGISTRY
from minigrad.ops.reductions import cumsum, max, mean, min, prod, sum, sum_to, var
from minigrad.ops.shapes import (
    broadcast_to, concat, expand_dims, flip, moveaxis, pad, permute, reshape, split, squeeze, stack, swapaxes, tile,
    transpose, unstack, zeros_like,
)  # fmt: skip

attach()
install(Basis(add, sum_to, stack, reshape))

__all__ = [
    "REGISTRY", "abs", "add", "astype", "binary_cross_entropy", "broadcast_to", "clip", "concat", "cos",
    "cross_entropy", "cumsum", "div", "dropout", "einsum", "embedding", "equal", "erf", "exp", "expand_dims", "expm1",
    "flip", "gelu", "getitem", "greater", "greater_equal", "less", "less_equal", "linear", "linear_cross_entropy",
    "log", "log1p", "log_softmax", "logsumexp", "matmul", "matrix_transpose", "max", "maximum", "mean", "min",
    "minimum", "moveaxis", "mse", "mul", "neg", "not_equal", "pad", "permute", "pick", "power", "prod", "reciprocal",
    "relu", "reshape", "scatter_add", "sigmoid", "sign", "sin", "softmax", "softplus", "split", "sqrt", "square",
    "squeeze", "stack", "step", "sub", "sum", "swapaxes", "tanh", "tile", "transpose", "unstack", "var", "where",
    "zeros_like",
]  # fmt: skip
