"""Floor 7: the option --device: where a command makes its tensors and models."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from minigrad.engine import device
from minigrad.kernels import named


def _there(ctx: click.Context, _: click.Parameter, name: str) -> str:
    """Found before anything is read or written; DeviceError, which says what is missing, where it is not there."""
    if name == "cuda-sim":
        from minigrad.testing import simt

        simt.device()
    if not ctx.resilient_parsing:
        named(name)
        if name != "cpu":
            from minigrad.kernels.cuda.matmul import check_setting

            check_setting()
    return name


def device_option(command: Callable) -> Callable:
    """Everything that the command makes is on the device."""

    @wraps(command)
    def run(*args: Any, device_name: str, **kwargs: Any) -> Any:
        with device(device_name):
            return command(*args, **kwargs)

    return click.option(
        "--device", "device_name", type=click.Choice(["cpu", "cuda", "cuda-sim"]), default="cpu", show_default=True,
        is_eager=True, callback=_there, help="where to compute; cuda-sim is an emulated GPU, for tests",
    )(run)  # fmt: skip


def chosen(ctx: click.Context) -> list[str]:
    """The words that choose the same device again."""
    name = ctx.params["device_name"]
    return [] if name == "cpu" else ["--device", name]
