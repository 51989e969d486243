"""What stands between our records in a topic that nobody but we should write to: whether it is a newer owner's mark.

Called by the processor shell when the offsets of its records do not follow one another, which is rare.
"""

from __future__ import annotations

from collections.abc import Callable

from perdure_runtime.handler import Role
from perdure_runtime.log import Log, TopicPartition
from perdure_schemas.keys import mark_key

_READ_S_MAX = 5.0
_POLL_S = 0.02
_RECORDS_PER_POLL_MAX = 1_000


def is_marked(log: Log, role: Role, monotonic_s: Callable[[], float], partition: int, first: int, last: int) -> bool:
    """Whether an owner mark of a role stands in its restored topic between two offsets, both included; true if that
    cannot be read in time, because taking over again is always right. Blocks."""
    where = TopicPartition(role.restored_topic, partition)
    beginning = mark_key(f"{role.name}/{partition}", "")
    reader = log.reader("gap")
    try:
        reader.assign({where: first})
        deadline_s = monotonic_s() + _READ_S_MAX
        while reader.position(where) <= last:
            if monotonic_s() >= deadline_s:
                return True
            for record in reader.poll(_RECORDS_PER_POLL_MAX, _POLL_S):
                if record.offset <= last and (record.key or b"").startswith(beginning):
                    return True
        return False
    finally:
        reader.close()
