"""Floor 6: the command ``minigrad``.

Other packages, and the floor above, add a command by an entry point in the group ``minigrad.commands``; it is
imported when it is asked for. Whatever a person can get wrong ends as one line on stderr and exit code 2.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn

import click

from minigrad import __version__
from minigrad.errors import MinigradError

ENTRY_POINTS = "minigrad.commands"


def fail(message: str, code: int = 2) -> NoReturn:
    """One line on stderr, and the end."""
    click.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(code)


class Commands(click.Group):
    """A group with the commands of its own and those of the entry points."""

    def _found(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._found()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._found().get(cmd_name)
        return super().get_command(ctx, cmd_name) or (entry.load() if entry else None)

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 shows '?' for what it lacks
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        try:
            code = super().main(*args, standalone_mode=False, **kwargs)
        except click.Abort:
            fail("interrupted", 130)
        except click.UsageError as error:
            see = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
            fail(error.format_message().rstrip(".") + see)
        except (click.ClickException, MinigradError) as error:
            fail(error.format_message() if isinstance(error, click.ClickException) else str(error))
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except MemoryError as error:
            fail(f"not enough memory: {error}")
        return sys.exit(code if isinstance(code, int) else 0) if standalone_mode else code


@click.group(cls=Commands, invoke_without_command=True)
@click.version_option(__version__, message="minigrad %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Automatic differentiation with Numba kernels, and sequence models on top."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@main.command()
def info() -> None:
    """Versions, threads, vector width, kernel cache, switches."""
    from minigrad.cli.info import lines

    for line in lines():
        click.echo(line)
