"""The actor of one device, and the trigger that feeds it with the records of its key."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from perdure import workflow
from perdure.kafka import Json, Record, on_record

TASK_QUEUE = "fleet"
READINGS, STATES = "readings", "device-states"
HOT_CELSIUS = 80.0
HOT_READINGS_FOR_ALARM = 3


@dataclass
class Reading:
    """What a device measured: its readings are numbered from 1."""

    number: int
    celsius: float


@dataclass
class DeviceState:
    """All that an actor knows: what the snapshot holds when it goes on as a new run."""

    device: str
    readings_per_run: int = 500
    readings: int = 0
    last_number: int = 0
    hot_in_a_row: int = 0
    alarm: bool = False
    runs: int = 1


@workflow.defn
class Device:
    """Lives as long as its device. Nobody else touches its state, so there is nothing to lock."""

    @workflow.init
    def __init__(self, state: DeviceState) -> None:
        self._state = state
        self._readings_of_this_run = 0

    @workflow.run
    async def run(self, state: DeviceState) -> None:
        await workflow.wait_condition(lambda: self._readings_of_this_run >= state.readings_per_run)
        # The snapshot: a new run with an empty history begins with this state.
        self._state.runs += 1
        workflow.continue_as_new(self._state)

    @workflow.signal
    def measured(self, reading: Reading) -> None:
        state = self._state
        state.readings += 1
        state.last_number = reading.number
        state.hot_in_a_row = state.hot_in_a_row + 1 if reading.celsius >= HOT_CELSIUS else 0
        state.alarm = state.hot_in_a_row >= HOT_READINGS_FOR_ALARM
        self._readings_of_this_run += 1
        # Written exactly once for each reading, and in order for each device: a topic of states for everybody else.
        workflow.emit(STATES, key=state.device, value=asdict(state))

    @workflow.query
    def state(self) -> DeviceState:
        return self._state


@on_record(
    READINGS,
    workflow=Device.run,
    signal=Device.measured,
    task_queue=TASK_QUEUE,
    id="device-{key}",
    value=Json(Reading),
    start_args=lambda record: [DeviceState(record.key_text)],
)
def reading_came(record: Record) -> Reading:
    """Signals the actor of the record's key; the first record of a key starts it."""
    reading: Reading = record.value
    return reading
