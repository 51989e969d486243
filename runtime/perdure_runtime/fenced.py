"""A fenced record as those read it who follow a topic of history's from outside: whether it is valid, and of what.

Called by the read side and by operators' commands. The roles themselves, and the audit, which must not share the code
that it checks, read marks in their own ways.
"""

from __future__ import annotations

from perdure_runtime.fence import Fence
from perdure_runtime.log import LogRecord
from perdure_schemas import codec
from perdure_schemas.keys import FencedKey, is_mark, parse_fenced_key
from perdure_schemas.records import OwnerMark

__all__ = ["admitted_key"]


def admitted_key(fence: Fence, record: LogRecord) -> FencedKey | None:
    """The key of a valid record that history wrote; ``None`` for a mark, which the fence notes, and for a void record.

    Args:
        fence: that of the record's partition, having seen all records before this one.

    Raises:
        DecodeError: a mark that cannot be read.
        ValueError: the key is none of history's.
    """
    if is_mark(record.key):
        mark = codec.decode_as(record.value, OwnerMark)
        fence.mark(mark.source, mark.epoch if mark.epoch >= 0 else record.offset)
        return None
    if record.key is None:
        raise ValueError("a record has no key; only history writes to this topic")
    key = parse_fenced_key(record.key)
    return key if fence.admits(f"history/{key.source_partition}", key.epoch) else None
