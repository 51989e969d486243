"""Requests that their askers have named, so that they may repeat them at any time.

Invariant I3: the same name for the same workflow id gives the same command id and proposes the same run id. Called
where the client makes starts and signals, and by :mod:`perdure.kafka`.
"""

from __future__ import annotations

from perdure._limits import check_name
from perdure_schemas.keys import request_command_id


def command_id_of(request_id: str | None) -> str:
    """The command id of a request; empty if the asker has not named it.

    Raises:
        ValueError: the name is empty or too long.
    """
    if request_id is None:
        return ""
    check_name(request_id, "request id")
    return request_command_id(request_id)
