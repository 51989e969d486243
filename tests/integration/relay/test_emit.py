"""What workflows emit stands in its topic once, in order, as other consumers read it: on both logs."""

from __future__ import annotations

import asyncio
import json

from perdure import workflow
from perdure.client import Client
from perdure.worker import Worker
from perdure_runtime.embedded.carrying import user_topic_spec
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames
from tests.support.user_topics import emit_id_of, read


@workflow.defn
class Ships:
    """Emits one record for each parcel, and one that says that it is done."""

    def __init__(self) -> None:
        self.go = False

    @workflow.run
    async def run(self, topic: str, parcels: int) -> None:
        for number in range(parcels):
            workflow.emit(topic, workflow.info().workflow_id, {"parcel": number}, {"kind": "parcel"})
        await workflow.wait_condition(lambda: self.go)
        workflow.emit(topic, workflow.info().workflow_id, "done")

    @workflow.signal
    def finish(self) -> None:
        self.go = True


async def test_each_record_is_there_once_and_in_order(
    client: Client, platform: tuple[Log, TopicNames], task_queue: str
) -> None:
    log, _ = platform
    topic = f"shipments-{task_queue}"
    log.create_topics({topic: user_topic_spec(topic)}, 3, 1)
    async with Worker(client, task_queue=task_queue, workflows=[Ships]):
        handles = [
            await client.start_workflow(Ships.run, args=[topic, 3], id=f"{task_queue}-{n}", task_queue=task_queue)
            for n in range(5)
        ]
        for handle in handles:
            await handle.signal(Ships.finish)
        for handle in handles:
            await handle.result()
        records = await asyncio.to_thread(read, log, topic, 20)
    assert len({emit_id_of(record) for record in records}) == 20
    for handle in handles:
        of = [record for record in records if record.key == handle.id.encode()]
        values = [record.value for record in of]
        assert values == [b'{"parcel":0}', b'{"parcel":1}', b'{"parcel":2}', b"done"]
        assert len({record.partition for record in of}) == 1
        headers = dict(of[0].headers)
        assert headers["kind"] == b"parcel"
        assert headers["perdure-workflow-id"] == handle.id.encode()
        assert json.loads(of[0].value or b"")["parcel"] == 0
