"""From exceptions to the one line a user sees. Called by :func:`perdure_ops.cli.main` only.

An error a user can cause says what was wrong, where, and what to do, and needs no traceback. Anything else is a bug: it
is named by its type, and ``PERDURE_DEBUG=1`` shows where it came from.
"""

from __future__ import annotations

#: Modules whose errors carry a message that is meant for users.
_EXPLAINED_MODULES = ("perdure_ops", "perdure_runtime", "perdure_schemas", "perdure")
_CAUSES_MAX = 5


class CliError(Exception):
    """A command cannot do what was asked. The message says what, where and what to do.

    Args:
        message: one line.
        exit_code: the process's exit code, not 0.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def one_line(text: str) -> str:
    """``text`` without line breaks, and with single spaces where there was more."""
    return " ".join(text.split())


def describe_error(error: BaseException) -> str:
    """One line for an error, with its causes where they add something."""
    package = type(error).__module__.partition(".")[0]
    if isinstance(error, CliError):
        return one_line(str(error))
    if package in _EXPLAINED_MODULES:
        return one_line(_with_causes(error))
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename}" if error.filename else ""
        return one_line(f"{error.strerror}:{where}" if where else error.strerror)
    return one_line(f"unexpected {type(error).__name__}: {error} (PERDURE_DEBUG=1 shows where it comes from)")


def _with_causes(error: BaseException) -> str:
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < _CAUSES_MAX:
        text = str(current) or type(current).__name__
        if not any(text in part for part in parts):
            parts.append(text)
        current = current.__cause__
    return ": ".join(parts)
