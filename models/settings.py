"""Floor 7: settings: frozen dataclasses that know the limits of their fields.

One line for each field gives its default, what it may be, and its help; from it follow the check (of what a person
types and of what a file holds) and the option of the command line.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Self

import click

from minigrad.errors import UserError, describe


def whole(default: int | None, low: int, high: int, help: str) -> Any:
    """An integer in [low, high]; a default of None makes it optional."""
    expected = f"an integer from {low} to {high:,}"
    return _field(default, int, expected, lambda v: _is(v, int) and low <= v <= high, help)


def real(default: float | None, low: float, high: float, help: str, *, closed: bool = False) -> Any:
    """A finite number in (low, high), or [low, high) if ``closed``; a default of None makes it optional."""
    expected = f"a number {'of at least' if closed else 'above'} {low:g}" + (
        "" if math.isinf(high) else f" and below {high:g}"
    )

    def ok(v: Any) -> bool:
        return _is(v, (int, float)) and math.isfinite(v) and (low < v < high or (closed and v == low))

    return _field(default, float, expected, ok, help)


def share(default: float | None, help: str) -> Any:
    """A number in (0, 1]; a default of None makes it optional."""
    return _field(default, float, "a number above 0, 1 at most", lambda v: _is(v, (int, float)) and 0 < v <= 1, help)


def choice(default: str, options: tuple[str, ...], help: str) -> Any:
    """One of a few words."""
    return _field(default, click.Choice(options), f"one of {', '.join(options)}", lambda v: v in options, help)


def named(default: str, ok: Callable[[Any], bool], expected: str, help: str) -> Any:
    """A text that ``ok`` takes."""
    return _field(default, str, expected, ok, help)


def flag(help: str, default: bool = False) -> Any:
    """True or false."""
    return _field(default, bool, "true or false", lambda v: type(v) is bool, help)


def _field(default: Any, type_: Any, expected: str, ok: Callable[[Any], bool], help: str) -> Any:
    return field(default=default, metadata={"type": type_, "expected": expected, "ok": ok, "help": help})


@dataclass(frozen=True)
class Settings:
    """Base: every field is made by one of the functions above.

    >>> @dataclass(frozen=True)
    ... class Size(Settings):
    ...     hidden: int = whole(256, 1, 1000, "units")
    >>> Size(hidden=0)
    Traceback (most recent call last):
    minigrad.errors.UserError: [hidden] got 0, expected an integer from 1 to 1,000
    """

    def __post_init__(self) -> None:
        for f in fields(self):
            value, limits = getattr(self, f.name), f.metadata
            if not (limits["ok"](value) or (value is None and f.default is None)):
                raise UserError(describe(f.name, _short(value), limits["expected"]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, where: str, values: Any) -> Self:
        """The settings that ``to_json`` gave; UserError if a file holds anything else."""
        names = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            raise UserError(
                describe(where, f"{cls.__name__} {_short(values)}", f"the fields {', '.join(sorted(names))}")
            )
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"[{where}] {error}") from None

    @classmethod
    def options(cls, function: Callable) -> Callable:
        """Decorate a command with one option for each field."""
        for f in reversed(fields(cls)):
            assert f.default is not MISSING
            name, type_ = f.name.replace("_", "-"), f.metadata["type"]
            names = f"--{name}/--no-{name}" if type_ is bool else f"--{name}"  # a preset may have set a flag
            shown = f.default is not None and f.default is not False
            option = click.option(names, default=f.default, type=type_, show_default=shown, help=f.metadata["help"])
            function = option(function)
        return function

    @classmethod
    def pick(cls, values: dict[str, Any]) -> Self:
        """From the arguments of a command, or from a preset, those that are fields."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})


def preset_of(presets: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """The settings of a name; UserError that names the nearest one.

    >>> preset_of({"large": {"hidden": 1500}}, "lagre")
    Traceback (most recent call last):
    minigrad.errors.UserError: [preset] got 'lagre', expected one of large; perhaps large
    """
    if name not in presets:
        near = get_close_matches(name, presets, 1)
        do = f"perhaps {near[0]}" if near else ""
        raise UserError(describe("preset", repr(name), f"one of {', '.join(presets)}", do))
    return dict(presets[name])


def _is(value: Any, types: Any) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
