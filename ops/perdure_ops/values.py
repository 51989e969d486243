"""Values on the command line: JSON inputs, durations, ``key=JSON`` pairs. Pure functions, called by the commands."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from perdure_ops.errors import CliError
from perdure_schemas.limits import NESTING_MAX
from perdure_schemas.nesting import is_too_deep

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
#: A hundred years. What is longer is a slip, and at some point no date any more.
_DURATION_MS_MAX = 100 * 365 * _UNIT_MS["d"]
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parse_duration(text: str | None, option: str) -> timedelta | None:
    """A duration like ``500ms``, ``10s``, ``1h30m`` or ``2d``; ``None`` stays ``None``.

    Raises:
        CliError: it is no such text.
    """
    if text is None:
        return None
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise CliError(f"{option}: {text!r} is not a duration; write for example 500ms, 10s, 1h30m or 2d")
    duration_ms = sum(float(number) * _UNIT_MS[unit] for number, unit in parts)
    if duration_ms > _DURATION_MS_MAX:
        raise CliError(f"{option}: {text!r} is too long; the longest is {_DURATION_MS_MAX // _UNIT_MS['d']}d")
    return timedelta(milliseconds=duration_ms)


def json_inputs(inputs: Sequence[str], files: Sequence[Path], option: str = "--input") -> list[bytes]:
    """The JSON texts of ``option`` and ``--input-file``, each checked, as bytes to be sent as they are.

    Raises:
        CliError: one is no JSON, or a file cannot be read.
    """
    if inputs and files:
        raise CliError("give --input or --input-file, not both: their order would not be clear")
    texts: list[bytes] = []
    for number, text in enumerate(inputs, 1):
        check_json(text, f"{option} number {number}")
        texts.append(text.encode())
    for path in files:
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise CliError(f"--input-file {path} cannot be read: {reason}") from error
        check_json(content, f"--input-file {path}")
        texts.append(content.strip().encode())
    return texts


def check_json(text: str, where: str) -> Any:
    """The value of a JSON text.

    Raises:
        CliError: it is no JSON; says where in the text, and how a string is quoted.
    """
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise CliError(f"{where} is not UTF-8 text: character {error.start + 1} cannot be encoded") from error
    if is_too_deep(encoded):
        raise CliError(f"{where} is nested more than {NESTING_MAX} times")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        hint = ""
        if re.fullmatch(r"[\w .:/@-]+", text):
            hint = f"; a JSON string needs quotes: '\"{text}\"'"
        raise CliError(f"{where} is not JSON: {error}{hint}") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def json_pairs(pairs: Sequence[str], option: str) -> dict[str, Any]:
    """``key=JSON`` pairs as a dictionary.

    Raises:
        CliError: a pair has no ``=``, or its value is no JSON.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise CliError(f"{option}: {pair!r} is not of the form key=JSON")
        found[key] = check_json(value, f"{option} {key}")
    return found
