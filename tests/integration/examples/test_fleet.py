"""The fleet: one actor per device, each device's readings once and in order, snapshots without a loss."""

from __future__ import annotations

from dataclasses import replace

from examples.fleet.actor import READINGS, STATES, TASK_QUEUE, Device, DeviceState, reading_came
from examples.fleet.check import Check
from perdure.kafka import RecordTriggers
from perdure.testing.kafka import KafkaEnvironment
from perdure.worker import Worker

DEVICES, PER_DEVICE = 5, 12


async def test_each_device_takes_its_readings_in_order_through_snapshots() -> None:
    trigger = replace(
        reading_came, start_args=lambda record: [DeviceState(record.key_text, readings_per_run=PER_DEVICE // 3)]
    )
    check = Check(DEVICES, PER_DEVICE)
    async with await KafkaEnvironment.start("embedded") as env:
        await env.create_topic(READINGS, STATES, partitions=2)
        async with (
            Worker(env.client, task_queue=TASK_QUEUE, workflows=[Device]),
            RecordTriggers(env.client, triggers=[trigger], group="fleet"),
        ):
            readings = [
                (f"d{device}", {"number": number, "celsius": 79.0 + device})
                for number in range(1, PER_DEVICE + 1)
                for device in range(DEVICES)
            ]
            await env.produce_many(READINGS, readings)
            alarms = set()
            async for record in env.follow(STATES):
                check.take(record)
                if record.value["alarm"]:
                    alarms.add(record.value["device"])
                if check.seen == DEVICES * PER_DEVICE:
                    break
            assert not check.faults
            assert not check.missing()
            assert alarms == {"d1", "d2", "d3", "d4"}  # d0 stays one degree below
            state = await env.client.get_workflow_handle_for(Device.run, "device-d3").query(Device.state)
    assert (state.readings, state.last_number, state.alarm) == (PER_DEVICE, PER_DEVICE, True)
    assert state.runs > 1
