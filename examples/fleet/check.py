"""What a run of the fleet has to show: a reader of the states, who trusts nothing that an actor says of itself."""

from __future__ import annotations

from perdure.kafka import Record


class Check:
    """What every reader of the states may rely on: each device shows its readings once each, in their order."""

    def __init__(self, devices: int, readings: int) -> None:
        self._last = dict.fromkeys((f"d{number}" for number in range(devices)), 0)
        self._readings = readings
        self.seen = 0
        self.after_snapshot = 0
        self.faults: list[str] = []

    def take(self, record: Record) -> None:
        """The next record of the states."""
        device, state = record.key_text, record.value
        expected = self._last[device] + 1
        if (state["last_number"], state["readings"]) != (expected, expected):
            self.faults.append(f"{device} shows reading {state['last_number']} where {expected} is next")
        self._last[device] = state["last_number"]
        self.after_snapshot += state["runs"] > 1
        self.seen += 1

    def missing(self) -> list[str]:
        """Devices that have not shown all of their readings."""
        return [device for device, last in self._last.items() if last != self._readings]
