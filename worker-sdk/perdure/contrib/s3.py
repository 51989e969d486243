"""Large payloads in an object store that speaks Amazon's S3: AWS itself, MinIO, Ceph and others.

::

    client = new_boto3_client(boto3.client("s3", endpoint_url="http://minio:9000"))
    driver = S3StorageDriver(client, bucket="payloads")
    converter = dataclasses.replace(DataConverter.default, external_storage=ExternalStorage([driver]))

``boto3`` comes with ``pip install perdure[s3]``; for another library write a :class:`S3StorageDriverClient`.

Invariants: an object is named by the SHA-256 of what is in it, so the same payload is stored once, and what was changed
in the store is found; nothing is ever deleted here (give the bucket a lifecycle rule that is longer than the retention
of histories); no credentials are in an error. Called by the data converter.
"""

from __future__ import annotations

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from perdure.converter import (
    PayloadNotStoredError,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)
from perdure_schemas.records import Payload

__all__ = ["S3StorageDriver", "S3StorageDriverClient", "new_boto3_client"]

_BUCKET, _KEY, _DIGEST = "bucket", "key", "sha256"
_MISSING_CODES = ("404", "NoSuchKey", "NotFound")
_REQUESTS_MAX = 8


class S3StorageDriverClient(ABC):
    """What the driver needs of an S3 library."""

    @abstractmethod
    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        """Store an object durably, in place of one that is there."""

    @abstractmethod
    async def object_exists(self, *, bucket: str, key: str) -> bool:
        """Whether there is an object of that key."""

    @abstractmethod
    async def get_object(self, *, bucket: str, key: str) -> bytes:
        """What is in an object.

        Raises:
            KeyError: there is none of that key.
        """

    def describe(self) -> Mapping[str, str]:
        """Where the store is, for messages; nothing secret."""
        return {}


class S3StorageDriver(StorageDriver):
    """Keeps payloads as objects of a bucket.

    Args:
        client: The store; see :func:`new_boto3_client`.
        bucket: The bucket, or a function that chooses one for a payload.
        driver_name: The name of this store, as it stands in references: never change it for a store in use.
        max_payload_size: Payloads of more bytes are refused.
        key_prefix: Put in front of the objects' keys.

    Raises:
        ValueError: ``max_payload_size`` is below 1, or the bucket's name is empty.
    """

    def __init__(
        self,
        client: S3StorageDriverClient,
        bucket: str | Callable[[StorageDriverStoreContext, Payload], str],
        driver_name: str = "aws.s3driver",
        max_payload_size: int = 50 * 1024 * 1024,
        *,
        key_prefix: str = "",
    ) -> None:
        if max_payload_size < 1:
            raise ValueError(f"max_payload_size is {max_payload_size}; it must be 1 or more")
        if not bucket:
            raise ValueError("S3StorageDriver needs the name of a bucket")
        self._client = client
        self._bucket = bucket
        self._name = driver_name
        self._bytes_max = max_payload_size
        self._prefix = key_prefix

    def name(self) -> str:
        """See the base class."""
        return self._name

    def type(self) -> str:
        """See the base class."""
        return "aws.s3driver"

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """See the base class.

        Raises:
            ValueError: a payload is larger than ``max_payload_size``.
            RuntimeError: the store refused, or was not reached.
        """
        requests = asyncio.Semaphore(_REQUESTS_MAX)

        async def put(payload: Payload) -> StorageDriverClaim:
            async with requests:
                return await self._put(context, payload)

        return list(await asyncio.gather(*(put(payload) for payload in payloads)))

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """See the base class.

        Raises:
            PayloadNotStoredError: an object is missing, or is not what was stored.
            RuntimeError: the store refused, or was not reached.
        """
        requests = asyncio.Semaphore(_REQUESTS_MAX)

        async def get(claim: StorageDriverClaim) -> Payload:
            async with requests:
                return await self._get(claim)

        return list(await asyncio.gather(*(get(claim) for claim in claims)))

    async def _put(self, context: StorageDriverStoreContext, payload: Payload) -> StorageDriverClaim:
        data = msgspec.msgpack.encode(payload)
        if len(data) > self._bytes_max:
            raise ValueError(
                f"a payload of {len(data)} bytes is more than the {self._bytes_max} bytes that store {self._name!r}"
                " takes: raise max_payload_size, or store it yourself and pass where it is"
            )
        digest = hashlib.sha256(data).hexdigest()
        bucket = self._bucket if isinstance(self._bucket, str) else self._bucket(context, payload)
        key = f"{self._prefix}{digest}"
        try:
            if not await self._client.object_exists(bucket=bucket, key=key):
                await self._client.put_object(bucket=bucket, key=key, data=data)
        except Exception as error:
            raise RuntimeError(f"cannot store a payload in {self._where(bucket, key)}: {_said(error)}") from error
        return StorageDriverClaim({_BUCKET: bucket, _KEY: key, _DIGEST: digest})

    async def _get(self, claim: StorageDriverClaim) -> Payload:
        try:
            bucket, key, digest = (claim.claim_data[name] for name in (_BUCKET, _KEY, _DIGEST))
        except KeyError:
            raise PayloadNotStoredError(f"the claim {dict(claim.claim_data)} is none of store {self._name!r}") from None
        where = self._where(bucket, key)
        try:
            data = await self._client.get_object(bucket=bucket, key=key)
        except KeyError:
            raise PayloadNotStoredError(
                f"there is no {where}: was it deleted, by a lifecycle rule perhaps, or does this process use another"
                " store than the one that stored it?"
            ) from None
        except Exception as error:
            raise RuntimeError(f"cannot get {where}: {_said(error)}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise PayloadNotStoredError(f"{where} is not what was stored: its digest differs")
        return msgspec.msgpack.decode(data, type=Payload)

    def _where(self, bucket: str, key: str) -> str:
        described = ", ".join(f"{name}={value}" for name, value in self._client.describe().items())
        return f"object {key!r} of bucket {bucket!r}" + (f" ({described})" if described else "")


def new_boto3_client(client: Any) -> S3StorageDriverClient:
    """The store a boto3 client leads to. Its requests run in threads.

    Args:
        client: Made by ``boto3.client("s3", …)``; the endpoint, the region and the credentials are its own.
    """
    return _Boto3Client(client)


class _Boto3Client(S3StorageDriverClient):
    def __init__(self, client: Any) -> None:
        self._client = client

    def describe(self) -> Mapping[str, str]:
        return {"endpoint": str(self._client.meta.endpoint_url)}

    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        await asyncio.to_thread(lambda: self._client.put_object(Bucket=bucket, Key=key, Body=data))

    async def object_exists(self, *, bucket: str, key: str) -> bool:
        try:
            await asyncio.to_thread(lambda: self._client.head_object(Bucket=bucket, Key=key))
        except Exception as error:
            if _code(error) in _MISSING_CODES:
                return False
            raise
        return True

    async def get_object(self, *, bucket: str, key: str) -> bytes:
        def get() -> bytes:
            body = self._client.get_object(Bucket=bucket, Key=key)["Body"]
            try:
                found: bytes = body.read()
            finally:
                body.close()
            return found

        try:
            return await asyncio.to_thread(get)
        except Exception as error:
            if _code(error) in _MISSING_CODES:
                raise KeyError(key) from None
            raise


def _code(error: Exception) -> str:
    """S3's code for an error that boto3 raised; empty if it has none. Its classes need not be imported for this."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
