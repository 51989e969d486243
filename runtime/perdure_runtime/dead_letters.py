"""The dead letter of a record that could not be processed.

Invariant: whatever the record, its letter can be appended: what is too large is cut, and the reason says so. Pure.
Called by the processor shell and the relay.
"""

from __future__ import annotations

from perdure_runtime.log import LogRecord, NewRecord
from perdure_schemas import codec
from perdure_schemas.records import DeadLetter
from perdure_schemas.topics import RECORD_BYTES_MAX

#: Room beside the value for everything else a letter holds.
VALUE_BYTES_MAX = RECORD_BYTES_MAX - 128 * 1024
KEY_BYTES_MAX = 16 * 1024
HEADERS_BYTES_MAX = 32 * 1024
REASON_CHARS_MAX = 2_000
_CUT = "(too large for this letter, so cut: "


def reason_of(error: BaseException) -> str:
    """One line for an error, in bounds: it may quote a record."""
    text = f"{type(error).__name__}: {error}"
    if len(text) > REASON_CHARS_MAX:
        text = f"{text[:REASON_CHARS_MAX]}… ({len(text)} characters)"
    return text.encode(errors="replace").decode()


def is_cut(letter: DeadLetter) -> bool:
    """Whether a letter does not hold its record in full."""
    if letter.value is not None and len(letter.value) >= VALUE_BYTES_MAX:
        return True
    return letter.reason.endswith(")") and _CUT in letter.reason


def dead_letter(topic: str, record: LogRecord, reason: str, now_ms: int, *, emit_id: str = "") -> NewRecord:
    """The letter for ``topic``, about ``record``; ``reason`` is :func:`reason_of` the error.

    ``emit_id``: see :class:`perdure_schemas.records.DeadLetter`.
    """
    key, value, headers = record.key, record.value, dict(record.headers)
    cut = []
    if value is not None and len(value) > VALUE_BYTES_MAX:
        cut.append(f"the value of {len(value)} bytes")
        value = value[:VALUE_BYTES_MAX]
    if key is not None and len(key) > KEY_BYTES_MAX:
        cut.append(f"the key of {len(key)} bytes")
        key = key[:KEY_BYTES_MAX]
    if sum(len(name.encode(errors="replace")) + len(content) for name, content in headers.items()) > HEADERS_BYTES_MAX:
        cut.append(f"all of its {len(headers)} headers")
        headers = {}
    if cut:
        reason = f"{reason} {_CUT}{', '.join(cut)})"
    letter = DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=key,
        value=value,
        headers=headers,
        reason=reason,
        time_ms=now_ms,
        emit_id=emit_id,
    )
    name = f"emit/{emit_id}" if emit_id else f"{record.topic}/{record.partition}/{record.offset}"
    return NewRecord(topic, record.partition, name.encode(), codec.encode(letter))
