"""What the history role keeps in its partition store, and under which keys. Read and written by the service's modules.

=====================================  ===============================================================================
key                                    value
=====================================  ===============================================================================
``c/<workflow id>``                    the newest run's id
``s/<run id>``                         its :class:`~perdure_history.core.state.RunState`, as MessagePack
``h/<run id>/<first event id>``        a history record with numbered events, exactly as in the topic
``u/<run id>/~<what>``                 the newest record of unnumbered events of that kind, exactly as in the topic
``d/<run id>/<command id>``            empty: the run has taken this signal
``n/<command id>\\0<workflow id>``       the run that took this signal, of those whose asker named the request
``r/<time>/<run id>``                  empty: the closed run is removed at this time
``p``                                  :class:`Positions`
=====================================  ===============================================================================

Run ids hold no slash, so a run's keys are a range of their own.
"""

from __future__ import annotations

import msgspec

from perdure_history.core.state import RunState
from perdure_runtime.handler import PartitionStore
from perdure_schemas import limits

__all__ = ["POSITIONS", "STORE_VERSION", "Positions"]

STORE_VERSION = 1
POSITIONS = b"p"
RETENTION = b"r/"
_PREFIXES = (b"c/", b"s/", b"h/", b"u/", b"d/", b"n/", RETENTION, POSITIONS)

encode_state = msgspec.msgpack.Encoder().encode
decode_state = msgspec.msgpack.Decoder(RunState).decode


class Positions(msgspec.Struct, array_like=True):
    """How far a checkpoint has come.

    Attributes:
        marks: the offsets of all owner marks of the partition, which are its epochs.
        handled: the newest command that was handled; -1 before the first.
        recorded: the newest command with a history record that the state includes; -1 before the first.
        folded_below: everything below this offset of the history topic is included.
        saved_ms: when the checkpoint was taken.
    """

    marks: list[int] = []
    handled: int = -1
    recorded: int = -1
    folded_below: int = 0
    saved_ms: int = 0


encode_positions = msgspec.msgpack.Encoder().encode
decode_positions = msgspec.msgpack.Decoder(Positions).decode


def load_positions(store: PartitionStore, now_ms: int, retention_ms: int) -> Positions | None:
    """Where the store stands; ``None`` if it is empty, or so old that it had to be emptied.

    A run is removed ``retention_ms`` after its end, and compaction drops the tombstones that say so a while later: a
    store that is older than both would keep such a run for ever.
    """
    stored = store.get(POSITIONS)
    if stored is None:
        return None
    positions = decode_positions(stored)
    if now_ms - positions.saved_ms <= retention_ms + limits.STATE_AGE_MS_MAX:
        return positions
    for prefix in _PREFIXES:
        for key in [key for key, _ in store.scan(prefix)]:
            store.delete(key)
    return None


def current_key(workflow_id: str) -> bytes:
    """The key of a workflow id's newest run."""
    return f"c/{workflow_id}".encode()


def state_key(run_id: str) -> bytes:
    """The key of a run's state."""
    return f"s/{run_id}".encode()


def record_key(run_id: str, first_event_id: int) -> bytes:
    """The key of a history record with numbered events; they sort by event id."""
    return f"h/{run_id}/{first_event_id:010d}".encode()


def records_prefix(run_id: str) -> bytes:
    """The common beginning of the keys of a run's records with numbered events."""
    return f"h/{run_id}/".encode()


def first_event_id_of(key: bytes) -> int:
    """The first event id in a key made by :func:`record_key`."""
    return int(key[-10:])


def unnumbered_key(record_id: str) -> bytes:
    """The key of the newest record of unnumbered events, by its id in the topic."""
    return f"u/{record_id}".encode()


def unnumbered_prefix(run_id: str) -> bytes:
    """The common beginning of the keys of a run's unnumbered records."""
    return f"u/{run_id}/".encode()


def signal_key(run_id: str, command_id: str) -> bytes:
    """The key that says a run has taken a signal."""
    return f"d/{run_id}/{command_id}".encode()


def signals_prefix(run_id: str) -> bytes:
    """The common beginning of a run's signal keys."""
    return f"d/{run_id}/".encode()


def named_request_key(workflow_id: str, command_id: str) -> bytes:
    """The key that says some run of a workflow id has taken a signal whose asker named the request."""
    return f"n/{command_id}\0{workflow_id}".encode()


def retention_key(remove_at_ms: int, run_id: str) -> bytes:
    """The key that has a closed run removed; they sort by time."""
    return f"r/{remove_at_ms:015d}/{run_id}".encode()


def parse_retention_key(key: bytes) -> tuple[int, str]:
    """The time and the run id in a key made by :func:`retention_key`."""
    _, time_ms, run_id = key.decode().split("/", 2)
    return int(time_ms), run_id
