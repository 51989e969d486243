"""Patches: the markers that let old and new workflow code live side by side.

Invariants: a patch is decided once per run and stays; on replay it is on if its marker stands in the history up to and
including the workflow task that is replayed; one marker per patch. Called by the instance and by the matching of
commands with events.
"""

from __future__ import annotations

import json
from typing import Any

from perdure_schemas.records import MarkerRecorded, Payload, RecordMarker

PATCH_MARKER = "perdure.patch"
_METADATA = {"encoding": b"json/plain"}


def patch_marker(patch_id: str, *, deprecated: bool) -> RecordMarker:
    """The command that notes a patch. It does not go through the user's converter: the tools of the engine read it."""
    return RecordMarker(
        marker_name=PATCH_MARKER, details={"patch": [_payload(patch_id)], "deprecated": [_payload(deprecated)]}
    )


def patch_id_of(marker: MarkerRecorded | RecordMarker) -> str | None:
    """The patch a marker notes, or ``None`` if it is another kind of marker."""
    if marker.marker_name != PATCH_MARKER:
        return None
    return str(json.loads(marker.details["patch"][0].data))


def is_deprecated_patch(marker: MarkerRecorded | RecordMarker) -> bool:
    """Whether a marker was left by ``deprecate_patch``, so that code without it still replays."""
    return marker.marker_name == PATCH_MARKER and bool(json.loads(marker.details["deprecated"][0].data))


def _payload(value: Any) -> Payload:
    return Payload(metadata=_METADATA, data=json.dumps(value).encode())


class Patches:
    """The patches of one run."""

    __slots__ = ("_decided", "_in_history")

    def __init__(self) -> None:
        self._in_history: set[str] = set()
        self._decided: dict[str, bool] = {}

    def note_in_history(self, patch_id: str) -> None:
        """The history has a marker of this patch, at or before the workflow task that is run next."""
        self._in_history.add(patch_id)

    def decide(self, patch_id: str, *, replaying: bool) -> tuple[bool, bool]:
        """Whether the patch is on, and whether its marker must be written (or matched) now."""
        decided = self._decided.get(patch_id)
        if decided is not None:
            return decided, False
        on = not replaying or patch_id in self._in_history
        self._decided[patch_id] = on
        return on, on
