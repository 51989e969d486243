"""Large payloads in a store: references instead of data, and clear errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from perdure.contrib.encryption import EncryptionCodec
from perdure.converter import (
    DataConverter,
    ExternalStorage,
    FolderStorageDriver,
    PayloadNotStoredError,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)
from perdure_schemas.records import Payload

LARGE = "x" * 1000


class InMemory(StorageDriver):
    """What a user would write for a store of their own."""

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self.stored: list[Payload] = []

    def name(self) -> str:
        return self._name

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        first = len(self.stored)
        self.stored.extend(payloads)
        return [StorageDriverClaim({"index": str(first + number)}) for number in range(len(payloads))]

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        return [self.stored[int(claim.claim_data["index"])] for claim in claims]


async def test_large_payloads_are_replaced_and_come_back_in_order() -> None:
    driver = InMemory()
    converter = DataConverter(external_storage=ExternalStorage([driver], payload_size_threshold=100))
    payloads = await converter.encode([LARGE, "small", LARGE + "y"])
    assert [len(payload.data) < 100 for payload in payloads] == [True, True, True]
    assert [payload.metadata["encoding"] for payload in payloads] == [
        b"json/external-storage-reference",
        b"json/plain",
        b"json/external-storage-reference",
    ]
    assert len(driver.stored) == 2
    assert await converter.decode(payloads) == [LARGE, "small", LARGE + "y"]


async def test_what_is_stored_is_encrypted_if_there_is_a_codec(tmp_path: Path) -> None:
    storage = ExternalStorage([FolderStorageDriver(tmp_path)], payload_size_threshold=0)
    converter = DataConverter(payload_codec=EncryptionCodec({"k": bytes(32)}, "k"), external_storage=storage)
    payloads = await converter.encode([LARGE])
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"binary/encrypted" in stored and LARGE.encode() not in stored
    assert await converter.decode(payloads) == [LARGE]


async def test_a_folder_keeps_the_same_payload_once(tmp_path: Path) -> None:
    storage = ExternalStorage([FolderStorageDriver(tmp_path / "new")], payload_size_threshold=0)
    converter = DataConverter(external_storage=storage)
    assert await converter.encode([LARGE]) == await converter.encode([LARGE])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 1
    payloads = await converter.encode([LARGE])
    files[0].write_bytes(b"damaged")
    with pytest.raises(PayloadNotStoredError, match="is damaged"):
        await converter.decode(payloads)
    files[0].unlink()
    with pytest.raises(PayloadNotStoredError, match="does this process see the same folder"):
        await converter.decode(payloads)


async def test_a_claim_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    driver = FolderStorageDriver(tmp_path)
    with pytest.raises(PayloadNotStoredError):
        await driver.retrieve(StorageDriverRetrieveContext(), [StorageDriverClaim({"sha256": "../" * 20 + "etc"})])


async def test_several_drivers_need_a_selector_and_references_name_theirs() -> None:
    first, second = InMemory("first"), InMemory("second")
    with pytest.raises(ValueError, match="needs a driver_selector"):
        ExternalStorage([first, second])
    storage = ExternalStorage(
        [first, second],
        driver_selector=lambda context, payload: second if b"y" in payload.data else None,
        payload_size_threshold=10,
    )
    converter = DataConverter(external_storage=storage)
    payloads = await converter.encode([LARGE, LARGE + "y"])
    assert (len(first.stored), len(second.stored)) == (0, 1)
    assert await converter.decode(payloads) == [LARGE, LARGE + "y"]
    only_first = DataConverter(external_storage=ExternalStorage([first]))
    with pytest.raises(PayloadNotStoredError, match="in the store 'second'; this data converter has only 'first'"):
        await only_first.decode(payloads)


async def test_a_driver_that_loses_payloads_is_named() -> None:
    class Losing(InMemory):
        async def store(
            self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
        ) -> list[StorageDriverClaim]:
            return []

    converter = DataConverter(external_storage=ExternalStorage([Losing()], payload_size_threshold=0))
    with pytest.raises(ValueError, match=r"'memory' \(Losing\) gave 0 claims for 1"):
        await converter.encode(["x"])


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one driver"):
        ExternalStorage([])
    with pytest.raises(ValueError, match="same name"):
        ExternalStorage([InMemory(), InMemory()])
    with pytest.raises(ValueError, match="cannot be negative"):
        ExternalStorage([InMemory()], payload_size_threshold=-1)
