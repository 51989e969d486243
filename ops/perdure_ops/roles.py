"""The engine's roles by name. Called by the development server and the engine's process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perdure_ops.errors import CliError

if TYPE_CHECKING:
    from perdure_runtime.handler import Role
    from perdure_schemas.topics import TopicNames

#: Every role, in the order in which they are started.
ROLE_NAMES = ("history", "matching", "timers")


def parse_roles(text: str) -> tuple[str, ...]:
    """Role names of a comma-separated list, in the order of :data:`ROLE_NAMES`.

    Raises:
        CliError: a name is unknown, or none is given.
    """
    wanted = {name.strip() for name in text.split(",") if name.strip()}
    unknown = sorted(wanted - set(ROLE_NAMES))
    if unknown or not wanted:
        what = f"unknown role {', '.join(unknown)}" if unknown else "no role is named"
        raise CliError(f"--roles: {what}; choose from {', '.join(ROLE_NAMES)}")
    return tuple(name for name in ROLE_NAMES if name in wanted)


def make_roles(role_names: Sequence[str], names: TopicNames) -> list[Role]:
    """The roles with these names, for one namespace."""
    from perdure_history.service import HistoryRole
    from perdure_matching.service import MatchingRole
    from perdure_timers.service import TimersRole

    makers = {"history": HistoryRole, "matching": MatchingRole, "timers": TimersRole}
    return [makers[name](names) for name in role_names]
