"""``python -m bench COMMAND``: measures workloads on the embedded log, on Kafka, and beside other systems.

Figures are comparable only within one run on one machine. ``--help`` of each command tells its options.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from bench import comparing, growth, profiling, running, scaling
from bench.peers import installing
from perdure.runtime import collect_less_often

#: Modules with ``add_options(parser)`` and ``main(options) -> exit code``, by command.
_COMMANDS = {
    "run": running,
    "compare": comparing,
    "peers": installing,
    "profile": profiling,
    "growth": growth,
    "scale": scaling,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        about = (module.__doc__ or "").partition(": ")[2]
        command = commands.add_parser(name, help=about.splitlines()[0], description=about)
        module.add_options(command)
        command.set_defaults(main=module.main)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    code: int = options.main(options)
    return code


if __name__ == "__main__":
    collect_less_often()
    # A termination is as an interrupt: what was started is stopped in good order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
