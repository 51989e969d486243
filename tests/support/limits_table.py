"""The table of bounds in ``docs/limits.md``, made from ``perdure_schemas/limits.py``, so that it cannot lie.

``python -m tests.support.limits_table`` writes it; a test fails when it is out of date. A heading of the module becomes
a heading of the document, the comment in front of one or more bounds their description.
"""

from __future__ import annotations

import re
from pathlib import Path

from perdure_schemas import limits

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "limits.md"
_SECTION = re.compile(r"# --- ([^.]+)\. (.+?) -+")
_NAME = re.compile(r"([A-Z][A-Z_]+): Final = ")


def sections() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Title, what happens beyond, and (name, description) of each bound. Bounds in one group share the description."""
    found: list[tuple[str, str, list[tuple[str, str]]]] = []
    comment: list[str] = []
    last_was_bound = False
    for line in Path(limits.__file__).read_text().splitlines():
        section, name = _SECTION.fullmatch(line), _NAME.match(line)
        if section is not None:
            found.append((section[1], section[2], []))
            comment = []
        elif not line:
            comment = []
        elif line.startswith("#: "):
            if last_was_bound:
                comment = []
            comment.append(line[3:])
        elif name is not None:
            found[-1][2].append((name[1], " ".join(comment)))
        last_was_bound = name is not None
    return found


def names() -> list[str]:
    """All bounds."""
    return [name for _, _, rows in sections() for name, _ in rows]


def shown(name: str) -> str:
    """A bound's value for people."""
    value = getattr(limits, name)
    if "_BYTES" in name:
        for unit, factor in (("MiB", 1024 * 1024), ("KiB", 1024)):
            if value >= factor and value * 2 % factor == 0:
                return f"{value / factor:g} {unit}"
        return f"{value:,} bytes"
    if name.endswith("_MS") or "_MS_" in name:
        return f"{value / 3_600_000:g} h" if value % 3_600_000 == 0 else f"{value / 1000:g} s"
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


def render() -> str:
    """The whole document."""
    lines = [
        "# Limits",
        "",
        "Every bound of the platform, and what happens beyond it. Made from the code by",
        "`python -m tests.support.limits_table`; a test compares.",
        "The numbers stand in `perdure_schemas/limits.py`.",
    ]
    for title, beyond, rows in sections():
        lines += ["", f"## {title}", "", beyond, "", "| bound | value | |", "|---|---|---|"]
        before = ""
        for name, text in rows:
            description = "as above" if text and text == before else text
            before = text
            lines.append(f"| `{name}` | {shown(name)} | {description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(render())
