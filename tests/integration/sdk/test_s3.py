"""Large payloads in an object store, with boto3 against a small server: references in the log, data in the store."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from perdure import workflow
from perdure.client import Client
from perdure.contrib.s3 import S3StorageDriver, new_boto3_client
from perdure.converter import DataConverter, ExternalStorage, PayloadNotStoredError
from perdure.worker import Worker
from tests.support.s3_server import S3Server, s3_server

LARGE = "large payload " * 100
SECRET = "a-secret-of-the-store"


@pytest.fixture
def server() -> Iterator[S3Server]:
    with s3_server("payloads") as running:
        yield running


def _boto3(server: S3Server) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key=SECRET,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, proxies={}),
    )


def _converter(server: S3Server, **options: Any) -> DataConverter:
    options = {"bucket": "payloads", **options}
    driver = S3StorageDriver(new_boto3_client(_boto3(server)), **options)
    storage = ExternalStorage([driver], payload_size_threshold=100)
    return dataclasses.replace(DataConverter.default, external_storage=storage)


@workflow.defn
class Doubled:
    @workflow.run
    async def run(self, text: str) -> str:
        return text + text


async def test_large_arguments_and_results_go_through_the_store(
    embedded_client: Client, task_queue: str, server: S3Server
) -> None:
    found = embedded_client._connection
    assert found is not None
    client = Client.from_log(found.log, names=found.names, data_converter=_converter(server))
    async with Worker(client, task_queue=task_queue, workflows=[Doubled]):
        result = await client.execute_workflow(Doubled.run, LARGE, id=task_queue, task_queue=task_queue)
    assert result == LARGE + LARGE
    assert any(LARGE.encode() in data for data in server.objects.values())
    history = await embedded_client.get_workflow_handle(task_queue).fetch_history()
    assert LARGE not in history.to_json()


async def test_the_same_payload_is_stored_once(server: S3Server) -> None:
    converter = _converter(server, key_prefix="of-a-team/")
    first, second, other = await converter.encode([LARGE, LARGE, LARGE + "!"])
    assert len(server.objects) == 2
    assert all(path.startswith("/payloads/of-a-team/") for path in server.objects)
    assert await converter.decode([other, second, first]) == [LARGE + "!", LARGE, LARGE]
    puts = len([request for request in server.requests if request.startswith("PUT")])
    await converter.encode([LARGE])
    assert len([request for request in server.requests if request.startswith("PUT")]) == puts


async def test_what_is_missing_or_changed_is_named(server: S3Server) -> None:
    converter = _converter(server)
    payloads = await converter.encode([LARGE])
    (path,) = server.objects
    server.objects[path] += b"changed"
    with pytest.raises(PayloadNotStoredError, match="its digest differs"):
        await converter.decode(payloads)
    del server.objects[path]
    with pytest.raises(
        PayloadNotStoredError, match=f"there is no object .* of bucket 'payloads' .endpoint={server.url}"
    ):
        await converter.decode(payloads)


async def test_a_store_that_refuses_is_named_without_secrets(server: S3Server) -> None:
    with pytest.raises(RuntimeError, match=r"of bucket 'other' .*NoSuchBucket") as missing:
        await _converter(server, bucket="other").encode([LARGE])
    payloads = await _converter(server).encode([LARGE])
    server.refuses = "AccessDenied"
    with pytest.raises(RuntimeError, match=r"cannot get object .*AccessDenied") as refused:
        await _converter(server).decode(payloads)
    assert SECRET not in f"{missing.value}{refused.value}"


async def test_what_is_larger_than_the_driver_takes_is_refused_before_it_is_sent(server: S3Server) -> None:
    with pytest.raises(ValueError, match=r"more than the 500 bytes that store 'aws\.s3driver' takes"):
        await _converter(server, max_payload_size=500).encode([LARGE])
    assert server.requests == []
    with pytest.raises(ValueError, match="it must be 1 or more"):
        _converter(server, max_payload_size=0)
    with pytest.raises(ValueError, match="the name of a bucket"):
        _converter(server, bucket="")


async def test_a_function_may_choose_the_bucket(server: S3Server) -> None:
    server.buckets.add("huge")
    converter = _converter(server, bucket=lambda _, payload: "huge" if len(payload.data) > 2000 else "payloads")
    payloads = await converter.encode([LARGE, LARGE * 2])
    assert sorted(path.split("/")[1] for path in server.objects) == ["huge", "payloads"]
    assert await converter.decode(payloads) == [LARGE, LARGE * 2]
