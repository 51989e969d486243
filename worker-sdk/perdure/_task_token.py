"""Task tokens: what names one attempt of an activity outside of the worker that began it. Pure functions.

Users keep a token as opaque bytes. It is self-contained, so whoever has it needs no other id; it names one attempt, so
a late completion of an earlier attempt changes nothing. Made for ``activity.info().task_token``, read by the client.
"""

from __future__ import annotations

import msgspec

from perdure_schemas.limits import TASK_TOKEN_BYTES_MAX

#: In front of every token, so that other bytes are recognised, and for a later form.
_PREFIX = b"pat1"


class TaskToken(msgspec.Struct, frozen=True, array_like=True):
    """One attempt of an activity."""

    namespace: str
    workflow_id: str
    run_id: str
    scheduled_event_id: int
    attempt: int
    activity_id: str

    def encode(self) -> bytes:
        """The token as bytes."""
        return _PREFIX + msgspec.msgpack.encode(self)

    @staticmethod
    def decode(token: bytes) -> TaskToken:
        """The attempt that a token names.

        Raises:
            ValueError: the bytes are no task token.
        """
        if not isinstance(token, bytes) or len(token) > TASK_TOKEN_BYTES_MAX or not token.startswith(_PREFIX):
            what = f"these {len(token)} bytes are" if isinstance(token, bytes) else f"a {type(token).__name__} is"
            raise ValueError(f"{what} no task token; give activity.info().task_token unchanged")
        try:
            return msgspec.msgpack.decode(token[len(_PREFIX) :], type=TaskToken)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"the task token is damaged: {error}") from None
