"""Floor 3: derivatives of functions, each a few lines on top of ``vjp``.

They nest, and a derivative is itself recorded if something waits for its derivative, so any order works.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from minigrad.engine.backward import basis, key, pull_back, seed
from minigrad.engine.tape import Node, Operation, apply, enable_grad, is_recording, next_serial
from minigrad.engine.tensor import Tensor, check_cotangent, tensor
from minigrad.engine.tree import leaves, rebuild, tree_map
from minigrad.errors import DtypeError, GraphError, ShapeError, describe
from minigrad.kernels import BACKENDS

_ALIAS = Operation("alias", lambda backend, x: x, (lambda g, y, x: g,))


def _fresh(x: Any) -> Tensor:
    """The same values under a new name, so that a derivative with respect to it sees only the uses inside f.

    Without it, d/dy (x + y) at y = x would also count x (perturbation confusion).
    """
    x = x if isinstance(x, Tensor) else tensor(x)
    if x.dtype.kind != "f":
        raise DtypeError(
            describe("vjp", f"an input of dtype {x.dtype}", "float32 or float64", "use x.astype('float32')")
        )
    if x.requires_grad:
        with enable_grad():
            return apply(_ALIAS, (x,))
    return Tensor(x.data, True)


def _tensors(where: str, out: Any) -> list[Tensor]:
    """The leaves of what a function returned."""
    found = leaves(out)
    if not found or not all(isinstance(y, Tensor) for y in found):
        raise GraphError(describe(where, f"a function that returns {type(out).__name__}", "tensors"))
    return found


def _zeros(x: Tensor) -> Tensor:
    return Tensor(BACKENDS[type(x.data)].full(x.shape, 0, x.dtype))


def vjp(f: Callable, *xs: Any) -> tuple[Any, Callable]:
    """``y, pull = vjp(f, *xs)``: y = f(*xs), and ``pull(g)`` = the cotangents of xs, g df/dx.

    Inputs and outputs may be nested containers. ``pull`` may be called again.

    >>> import minigrad as mg
    >>> y, pull = mg.vjp(lambda a, b: a * b, mg.tensor(2.0), mg.tensor(3.0))
    >>> pull(mg.tensor(1.0))
    (tensor(3.), tensor(2.))
    """
    inputs = [_fresh(x) for x in leaves(xs)]
    with enable_grad():
        out = f(*rebuild(xs, inputs))
    outputs = _tensors("vjp", out)

    def pull(g: Any) -> Any:
        given = leaves(g)
        if len(given) != len(outputs):
            raise GraphError(describe("vjp", f"{len(given)} cotangents", f"{len(outputs)}, one for each result"))
        gs = [c if isinstance(c, Tensor) else tensor(c, dtype=y.dtype, device=y.device) for c, y in zip(given, outputs)]
        for c, y in zip(gs, outputs):
            check_cotangent(c, y)
        found = pull_back(outputs, gs, inputs)
        return rebuild(xs, [_zeros(x) if c is None else c for c, x in zip(found, inputs)])

    return out, pull


def value_and_grad(f: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """A function that returns f and its gradient with respect to the arguments ``argnums``; f returns a scalar.

    >>> import minigrad as mg
    >>> mg.value_and_grad(lambda x: x * x)(mg.tensor(3.0))
    (tensor(9., by=mul), tensor(6.))
    """
    numbers = (argnums,) if isinstance(argnums, int) else argnums

    @wraps(f)
    def value_and_gradient(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        def of_chosen(*chosen: Any) -> Tensor:
            full = list(args)
            for n, x in zip(numbers, chosen):
                full[n] = x
            return f(*full, **kwargs)

        y, pull = vjp(of_chosen, *[args[n] for n in numbers])
        if not isinstance(y, Tensor) or y.size != 1:
            got = f"a result of shape {y.shape}" if isinstance(y, Tensor) else type(y).__name__
            raise ShapeError(describe("grad", got, "a function with one scalar result", "use mg.jacobian or mg.vjp"))
        g = pull(seed(y))
        return y, g[0] if isinstance(argnums, int) else g

    return value_and_gradient


def grad(f: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """The gradient of a function with a scalar result.

    >>> import minigrad as mg
    >>> mg.grad(mg.grad(lambda x: x * x * x))(mg.tensor(2.0))
    tensor(12.)
    """
    with_value = value_and_grad(f, argnums)

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return with_value(*args, **kwargs)[1]

    return gradient


def jvp(f: Callable, xs: tuple, vs: tuple) -> tuple[Any, Any]:
    """f(*xs), and its derivative along vs: df/dx v.

    By the transposed pass: g -> g df/dx is linear in g, and its own vjp at v is df/dx v (Townsend 2017).

    >>> import minigrad as mg
    >>> mg.jvp(lambda x: x * x, (mg.tensor(3.0),), (mg.tensor(1.0),))
    (tensor(9., by=mul), tensor(6., by=add))
    """
    y, pull = vjp(f, *xs)
    with enable_grad():
        _, push = vjp(lambda g: tuple(leaves(pull(g))), tree_map(_zeros, y))
    return y, push(tuple(leaves(vs)))[0]


def jacobian(f: Callable) -> Callable:
    """``jacobian(f)(x)[i, j] = df(x)[i]/dx[j]``, shape y.shape + x.shape, for one tensor in and one out.

    >>> import minigrad as mg
    >>> mg.jacobian(lambda x: x * x)(mg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @wraps(f)
    def rows(x: Any) -> Tensor:
        y, pull = vjp(f, x)
        if not isinstance(y, Tensor) or any(leaf is not x for leaf in leaves(x)):
            got = f"{type(x).__name__} in and {type(y).__name__} out"
            raise GraphError(describe("jacobian", got, "one tensor in and one tensor out", "use mg.vjp"))
        backend = BACKENDS[type(y.data)]
        found = []
        for i in range(y.size):
            g = np.zeros(y.size, y.dtype)
            g[i] = 1
            found.append(pull(Tensor(backend.from_numpy(g.reshape(y.shape))))[0])
        shape = y.shape + (x.shape if isinstance(x, Tensor) else np.shape(x))
        if not found:
            return Tensor(backend.full(shape, 0, y.dtype))
        return basis().reshape(basis().stack(found), shape)

    return rows


def hessian(f: Callable) -> Callable:
    """Second derivatives of a scalar function, shape x.shape + x.shape.

    >>> import minigrad as mg
    >>> mg.hessian(lambda x: (x * x * x).sum())(mg.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacobian(grad(f))


def hvp(f: Callable, x: Any, v: Any) -> Any:
    """The Hessian of a scalar function times v, at the cost of a few gradients.

    >>> import minigrad as mg
    >>> mg.hvp(lambda x: (x * x * x).sum(), mg.tensor([1.0, 2.0]), mg.tensor([1.0, 1.0]))
    tensor([ 6., 12.])
    """
    _, pull = vjp(grad(f), x)
    return pull(v)[0]


def checkpoint(f: Callable, *args: Any) -> Any:
    """f(*args), whose intermediate results are not kept but computed again in the backward pass.

    Tensors that f reaches from outside (parameters) receive their gradients too. f must give the same result
    when it is called again: pass random masks in.

    >>> import minigrad as mg
    >>> x = mg.tensor(2.0, requires_grad=True)
    >>> mg.checkpoint(lambda a: a * a * a, x).backward()
    >>> x.grad
    tensor(12.)
    """
    if not is_recording():
        return f(*args)
    start = next_serial()
    inputs = [_fresh_float(x) for x in leaves(args)]
    out = f(*rebuild(args, inputs))
    outputs = _tensors("checkpoint", out)
    arrays = tuple(y.data for y in outputs)
    live = [y.requires_grad for y in outputs]
    outside = _reached(outputs, inputs, start)

    def rule(g: Any, y: Any, *xs: Tensor) -> list[Tensor | None]:
        given = iter(xs)
        again = [_fresh_float(next(given)) if isinstance(x, Tensor) else x for x in inputs]
        with enable_grad():
            ys = leaves(f(*rebuild(args, again)))
        return pull_back(ys, g, [x for x in again if isinstance(x, Tensor)] + outside)

    operands = tuple(x for x in leaves(args) if isinstance(x, Tensor)) + tuple(outside)
    operation = Operation("checkpoint", lambda backend, *_: arrays, rule)
    return rebuild(out, [y if on else y.detach() for y, on in zip(apply(operation, operands), live)])


def _fresh_float(x: Any) -> Any:
    return _fresh(x) if isinstance(x, Tensor) and x.dtype.kind == "f" else x


def _reached(outputs: list[Tensor], inputs: list[Any], start: int) -> list[Tensor]:
    """Tensors made before ``start``, other than ``inputs``, that the outputs depend on."""
    own = {key(x) for x in inputs if isinstance(x, Tensor)}
    found: dict[tuple, Tensor] = {}
    seen: set[Node] = set()
    stack = list(outputs)
    while stack:
        x = stack.pop()
        if not x.requires_grad or key(x) in own:
            continue
        if x.node is None or x.node.serial < start:
            found[key(x), x.index] = x
        elif x.node not in seen:
            seen.add(x.node)
            stack += x.node.inputs or ()
    return list(found.values())
