"""Write docs/reference.md from the records and docstrings: ``python docs/reference.py > docs/reference.md``."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

import click

import minigrad as mg
from minigrad import cli, config, errors, models
from minigrad.ops import REGISTRY
from minigrad.ops.record import REAL, Record

HEAD = """\
# Reference

Written by `python docs/reference.py > docs/reference.md` from the records of the operations and from docstrings; a
test holds it up to date. `help(mg.nn.LSTM)` shows the whole docstring. `mg` stands for `import minigrad as mg`.

"""

OPERATIONS = """\
## Operations

Functions of tensors, arrays and numbers, in `mg`. Elementwise ones broadcast as NumPy does. Most are methods too:
`x.tanh()`, `x.sum(0)`; operators are `+ - * / ** @`, comparisons, and `x[index]`. Equations call two operands a and b.
Notes say in which interval tests draw an argument, where that is not [-3, 3]; whether there are kinks, where the
derivative jumps; and whether the operation is composed of others.

"""


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(map(cell, row))} |\n" for row in lines) + "\n"


def signature(function: Callable) -> str:
    """The arguments without their types; ``**options`` are the named ones of the base class."""
    found = []
    for p in inspect.signature(function).parameters.values():
        if p.kind is p.VAR_KEYWORD and inspect.isclass(function):
            base = inspect.signature(function.__mro__[1]).parameters.values()
            found += [q for q in base if q.kind is q.KEYWORD_ONLY]
        elif p.name != "self":
            found.append(p)
    return str(inspect.Signature([p.replace(annotation=p.empty) for p in found]))


def summary(thing: Any) -> str:
    """The first paragraph of a docstring, in one line, with Markdown's code marks."""
    first = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return " ".join(first.split()).replace("``", "`").rstrip(":")


def note(record: Record) -> str:
    names = list(inspect.signature(record.function).parameters)
    parts = [f"{x} in [{low:g}, {high:g}]" for x, (low, high) in zip(names, record.domain) if (low, high) != REAL]
    parts += [] if record.smooth or not record.gradient else ["kinks"]
    return ", ".join(parts + ([] if record.op else ["composed"]))


def operations() -> Iterator[str]:
    public = [r for r in REGISTRY.values() if hasattr(mg, r.name)]
    order = list(dict.fromkeys(r.group for r in public if r.gradient)) + ["Elementwise, without gradient"]
    for group, records in groupby(sorted(public, key=lambda r: order.index(r.group)), lambda r: r.group):
        rows = ((f"`{r.name}{signature(r.function)}`", f"`{r.equation}`", note(r)) for r in records)
        yield f"### {group}\n\n" + table(("call", "equation", "notes"), rows)


def calls(prefix: str, things: Iterable[Any]) -> list[tuple[str, str]]:
    return [(f"`{prefix}{t.__name__}{signature(t)}`", summary(t)) for t in things]


def section(title: str, *rows: tuple[str, str]) -> str:
    return f"## {title}\n\n" + table(("call", "what it does"), rows)


def commands(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for part in command.list_commands(ctx):
            found = command.get_command(ctx, part)
            assert found is not None
            yield from commands(found, f"{name} {part}")
    else:
        given = [p for p in command.params if isinstance(p, click.Argument)]
        arguments = [f"{p.name}{'...' if p.nargs == -1 else ''}".upper() for p in given]
        yield f"`{' '.join([name, *arguments])}`", summary(command.callback)


def settings() -> str:
    """The environment variables, described in the docstring of Config."""
    text = dict(re.findall(r"^(\w+): +(.*)$", inspect.getdoc(config.Config) or "", re.MULTILINE))
    rows = ((f"`{variable}`", text[variable.removeprefix("MINIGRAD_").lower()]) for variable, _ in config.config.rows())
    return "## Settings\n\nEnvironment variables, read once; `minigrad info` prints them.\n\n" + table(
        ("variable", "meaning"), rows
    )


def testing() -> Iterator[tuple[str, str]]:
    """Checks, suites, and the strategies that draw what they are tried on."""
    checks = [getattr(mg.testing, name) for name in mg.testing.__all__ if name != "CAUSES"]
    yield from calls("mg.testing.", [*checks, mg.testing.op_test, mg.testing.pair_test])
    strategies = [getattr(mg.testing.strategies, name) for name in mg.testing.strategies.__all__]
    yield from calls("mg.testing.strategies.", [s for s in strategies if inspect.isfunction(s) or inspect.isclass(s)])


def page() -> str:
    tape = [mg.tensor, mg.device, mg.no_grad, mg.enable_grad, mg.detect_anomaly]
    methods = [getattr(mg.Tensor, name) for name in ("backward", "detach", "numpy", "item", "to")]
    transforms = [mg.grad, mg.value_and_grad, mg.vjp, mg.jvp, mg.jacobian, mg.hessian, mg.hvp, mg.checkpoint]
    layers = [getattr(mg.nn, name) for name in mg.nn.__all__ if name[0].isupper()]
    optim = [getattr(mg.optim, name) for name in mg.optim.__all__]
    own = [e for e in vars(errors).values() if inspect.isclass(e)]
    return (
        "".join(
            (
                HEAD,
                section("Tensors and the tape", *calls("mg.", tape), *calls("x.", methods)),
                section("Operations of your own", *calls("mg.", [mg.Operation, mg.apply])),
                section("Derivatives of functions", *calls("mg.", transforms)),
                section("Recurrences", *calls("mg.", [mg.scan, mg.explain])),
                section("Layers", *calls("mg.nn.", layers)),
                section("Checkpoints", *calls("mg.", [mg.save, mg.load]), *calls("mg.nn.", [mg.nn.from_torch])),
                section("Optimisers, clipping, schedules", *calls("mg.optim.", optim)),
                section("Testing gradients", *testing()),
                section("Models", *calls("minigrad.models.", [getattr(models, name) for name in models.__all__])),
                section("Command line", *commands(cli.main, "minigrad")),
                OPERATIONS,
                *operations(),
                "## Errors\n\n`[where] got ..., expected ...; do this`. All are subclasses of `MinigradError`.\n\n",
                table(("error", "meaning"), ((f"`minigrad.errors.{e.__name__}`", summary(e)) for e in own)),
                settings(),
            )
        ).rstrip("\n")
        + "\n"
    )


if __name__ == "__main__":
    print(page(), end="")
