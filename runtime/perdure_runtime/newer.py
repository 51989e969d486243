"""Records of a newer version in the engine's own topics: refused, not passed over.

Invariant: an engine never goes on without a record that another engine wrote for it. A damaged record is left behind as
a dead letter, for it would be damaged for everybody; one in a schema that only a newer version knows is whole, and to
pass it over would lose what it says. Called by the processor and its standbys, where a record could not be taken.
"""

from __future__ import annotations

from collections.abc import Collection

from perdure_runtime.log import LogRecord
from perdure_schemas.codec import UnknownSchemaError
from perdure_schemas.keys import is_mark, parse_fenced_key

__all__ = ["NewerVersionError", "refuse_newer"]


class NewerVersionError(Exception):
    """This version of the engine cannot go on with what a newer one wrote. The message says where, and what to do."""


def refuse_newer(record: LogRecord, error: Exception, topics: Collection[str]) -> None:
    """Raise if ``error`` says that an engine of a newer version wrote ``record``; return if it is anything else.

    Parameters:
        topics: those that only engines write.

    Raises:
        NewerVersionError: it is so.
    """
    if not isinstance(error, UnknownSchemaError) or record.topic not in topics:
        return
    if not is_mark(record.key):
        try:
            parse_fenced_key(record.key or b"")
        except ValueError:
            return  # no engine writes such a key
    raise NewerVersionError(
        f"the record at offset {record.offset} of {record.topic} {record.partition} was written by a newer version of"
        f" perdure ({error}). Nothing is lost: start engines of that version again"
    ) from error
