"""The tree of the ``perdure`` command, for tests that go through all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from perdure_ops import cli


def _leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, inner in below.items():
        yield from _leaves(inner, f"{path} {name}".strip())


#: By its words: every command that does something, as click knows it.
COMMANDS: dict[str, Any] = dict(_leaves(cli.command()))


def options(path: str) -> set[str]:
    """All names of a command's options."""
    return {option for parameter in COMMANDS[path].params for option in parameter.opts}


def command_of(arguments: Sequence[str]) -> str:
    """Which command a command line calls: the longest that it begins with.

    Raises:
        ValueError: it calls none.
    """
    for length in range(len(arguments), 0, -1):
        path = " ".join(arguments[:length])
        if path in COMMANDS:
            return path
    raise ValueError(f"{arguments} calls no command")
