"""Floor 6: the program ``minigrad``: while it imports what it needs, Ctrl-C is one line and no traceback.

It is installed as the package ``minigrad_program`` of its own: to import a part of minigrad imports all of it first.
"""

from __future__ import annotations

import os
import signal
from typing import Any


def main() -> Any:
    """Import the command line, and run it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # it is ignored under nohup
        signal.signal(signal.SIGINT, _end)
    from minigrad.cli import main as command

    signal.signal(signal.SIGINT, before)
    return command()


def _end(number: int, frame: Any) -> None:
    """At once: nothing was begun, and an import may swallow a KeyboardInterrupt."""
    os.write(2, b"\nerror: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
