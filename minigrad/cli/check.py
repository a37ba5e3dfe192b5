"""Floor 6: ``minigrad check``: the derivatives of a function in a file or a package, at random inputs."""

from __future__ import annotations

import sys
from typing import Any

import click
import numpy as np

from minigrad.cli.load import function as load
from minigrad.engine import Tensor
from minigrad.engine.tree import leaves
from minigrad.errors import MinigradError, UserError, describe
from minigrad.testing import GradientError, check_grad
from minigrad.testing.arrays import DOMAINS, Domain, fill, interval

_TRIES = 20  # inputs drawn for one at which the function is finite


def _shape(text: str) -> tuple[int, ...]:
    """``3,4`` is (3, 4); nothing, or ``()``, is the shape of a number."""
    try:
        shape = tuple(int(n) for n in text.strip("()").split(",") if n.strip())
    except ValueError:
        shape = (-1,)
    if any(n < 0 for n in shape):
        raise UserError(describe("--shape", repr(text), "sizes such as 3,4, or () for a number"))
    return shape


def _domain(text: str) -> Domain:
    """A name, or ``0.5,2``."""
    if text in DOMAINS:
        return text
    try:
        low, high = (float(n) for n in text.split(","))
    except ValueError:
        raise UserError(describe("--domain", repr(text), f"one of {', '.join(DOMAINS)}, or LOW,HIGH")) from None
    interval((low, high))
    return low, high


def _finite(name: str, f: Any, xs: list[np.ndarray]) -> bool:
    """Whether f is finite there; UserError for a function that cannot be checked at all."""
    try:
        with np.errstate(all="ignore"):
            found = leaves(f(*[Tensor(x) for x in xs]))
    except MinigradError:
        raise
    except Exception as error:
        shapes = ", ".join(str(x.shape) for x in xs)
        raise UserError(f"[{name}] {type(error).__name__} for inputs {shapes}: {error}") from None
    kinds = [str(y.dtype) if isinstance(y, Tensor) else type(y).__name__ for y in found]
    floats = [y for y in found if isinstance(y, Tensor) and y.dtype.kind == "f"]
    if not floats or not all(isinstance(y, Tensor) for y in found):
        got = f"a result of {', '.join(kinds) or 'nothing'}"
        raise UserError(describe(name, got, "a float32 or float64 tensor to differentiate"))
    return all(np.isfinite(y.numpy()).all() for y in floats)


@click.command("check")
@click.argument("function")
@click.option("--shape", "shapes", multiple=True, required=True, metavar="N,N", help="of an input; once for each")
@click.option("--order", type=click.IntRange(1, 4), default=2, show_default=True, help="of the highest derivative")
@click.option("--domain", default="real", show_default=True, help=f"of the inputs: {', '.join(DOMAINS)}, or LOW,HIGH")
@click.option("--scale", default=0.05, show_default=True, help="the largest step of the numerical derivative")
@click.option("--examples", type=click.IntRange(1), default=10, show_default=True, help="random inputs to check at")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def command(
    function: str, shapes: tuple[str, ...], order: int, domain: str, scale: float, examples: int, seed: int
) -> None:
    """Check the derivatives of FUNCTION, of float64 tensors, against numerical ones.

    FUNCTION is package.module:NAME or FILE.py:NAME. Exit code 0 if all are right, 1 with a report if one is wrong,
    2 for what cannot be checked.

    minigrad check minigrad:tanh --shape 3,4

    minigrad check losses.py:huber --shape 8 --shape 8 --domain apart --order 1
    """
    f = load("check", function, "package.module:NAME or FILE.py:NAME of a function of tensors")
    if not 0 < scale < np.inf:
        raise UserError(describe("--scale", f"{scale:g}", "a step above 0"))
    forms, where = [_shape(text) for text in shapes], _domain(domain)
    rng = np.random.default_rng(seed)
    for _ in range(examples):
        for _ in range(_TRIES):
            xs = [fill(shape, where, int(rng.integers(2**32))) for shape in forms]
            if _finite(function, f, xs):
                break
        else:
            got = f"no finite value in {_TRIES} draws from domain {domain}"
            raise UserError(describe(function, got, "inputs where it is defined", "pass another --domain"))
        try:
            check_grad(f, *xs, order=order, scale=scale)
        except GradientError as error:
            click.echo(f"{function} at inputs {', '.join(map(str, forms))}, seed {seed}\n{error}")
            sys.exit(1)
    inputs, orders = ", ".join(map(str, forms)), "order 1" if order == 1 else f"orders 1 to {order}"
    click.echo(f"{function}: derivatives of {orders} are right at {examples} inputs {inputs}, domain {domain}")
