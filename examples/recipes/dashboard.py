"""``BOOTSTRAP=localhost:9092 faust -A examples.recipes.dashboard worker -l info``: a live dashboard from a Faust table.

A table holds the state of each run, another one the owner marks; Faust keeps both in changelog topics and brings them
back after a restart. ``http://localhost:6066/runs/`` shows how many runs of each type are in which state, as JSON.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import faust

from examples.recipes.records import Fence, Schemas, plain


def make_app(bootstrap: str, namespace: str, partitions: int, *, name: str = "runs-dashboard", **options: Any) -> Any:
    """The app, with its table as ``app.runs`` and what it shows as ``app.shown()``.

    Args:
        bootstrap: Brokers.
        namespace: Whose runs.
        partitions: Of the namespace's topics: the table has as many.
        name: Of the app, so of its consumer group and topics.
        options: More options of ``faust.App``.
    """
    app: Any = faust.App(
        name,
        broker=f"kafka://{bootstrap}",
        store="memory://",
        topic_partitions=partitions,
        **{"topic_disable_leader": True, **options},
    )
    schemas = Schemas.of_folder()
    topic = app.topic(f"perdure.{namespace}.executions", key_serializer="raw", value_serializer="raw")
    app.runs = app.Table("runs", partitions=partitions)
    app.marks = app.Table("marks", partitions=partitions)

    @app.agent(topic)  # type: ignore[untyped-decorator]
    async def take(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            fence = Fence(app.marks.get(str(message.partition)))
            value = None if message.value is None else plain(message.value, message.headers)
            if message.key.startswith(b"~mark/"):
                if value is not None:
                    fence.mark(schemas.decode(value)[1], message.offset)
                    app.marks[str(message.partition)] = fence.marks
                continue
            run_id = fence.id_of(message.key)
            if run_id is None:
                continue
            if value is None:
                app.runs.pop(run_id, None)
            else:
                run = schemas.decode(value)[1]
                app.runs[run_id] = [run["workflow_type"], run["status"]]

    def shown() -> dict[str, dict[str, int]]:
        counts: dict[str, Counter[str]] = {}
        for workflow_type, status in app.runs.values():
            counts.setdefault(workflow_type, Counter())[status] += 1
        return {name: dict(one) for name, one in sorted(counts.items())}

    @app.page("/runs/")  # type: ignore[untyped-decorator]
    async def page(web: Any, _request: Any) -> Any:
        return web.json(shown())

    app.shown = shown
    return app


if "BOOTSTRAP" in os.environ:
    app = make_app(
        os.environ["BOOTSTRAP"], os.environ.get("NAMESPACE", "default"), int(os.environ.get("PARTITIONS", "16"))
    )
