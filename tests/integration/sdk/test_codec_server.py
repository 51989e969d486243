"""The command line with a codec server: what is encrypted in the log is read through it."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
import uvicorn

from perdure import workflow
from perdure.client import Client
from perdure.contrib.codec_server import RemoteCodec, codec_server
from perdure.contrib.encryption import EncryptionCodec
from perdure.converter import DataConverter
from perdure.worker import Worker
from perdure_ops import workflow_actions as actions
from perdure_ops.output import OutputFormat

CODEC = EncryptionCodec({"k": bytes(range(32))}, "k")


@workflow.defn
class Shouting:
    @workflow.run
    async def run(self, text: str) -> str:
        await workflow.sleep(timedelta(milliseconds=1))
        return text.upper()

    @workflow.query
    def loud(self, text: str) -> str:
        return text.upper()


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A codec server on a port of its own."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        app = codec_server(CODEC, authorize=lambda request: request.headers.get("authorization") == "Bearer t")
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


async def test_start_result_query_and_show_go_through_the_codec_server(
    embedded_client: Client, task_queue: str, endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = embedded_client._connection
    assert found is not None
    remote = actions.remote_codec(endpoint, "default", "Bearer t")
    assert isinstance(remote, RemoteCodec)
    converters = [dataclasses.replace(DataConverter.default, payload_codec=codec) for codec in (CODEC, remote)]
    with_key, over_http = (Client.from_log(found.log, names=found.names, data_converter=one) for one in converters)
    async with Worker(with_key, task_queue=task_queue, workflows=[Shouting]):
        request = actions.StartRequest.parse(
            "Shouting", task_queue, task_queue, ['"psst"'], [], None, None, None, None, None, []
        )
        await actions.start(over_http, request, OutputFormat.JSON)
        await actions.result(over_http, task_queue, None, OutputFormat.TABLE)
        args = actions.parse_inputs(['"hush"'], [])
        await actions.query(over_http, task_queue, None, "loud", args, None, OutputFormat.TABLE)
        printed = capsys.readouterr().out
        assert '"PSST"' in printed and '"HUSH"' in printed
        await actions.show(embedded_client, task_queue, None, OutputFormat.JSONL)
        assert "psst" not in capsys.readouterr().out
        await actions.show(embedded_client, task_queue, None, OutputFormat.JSONL, remote)
        shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "psst" in json.dumps(shown[0]) and "PSST" in json.dumps(shown[-1])
