"""Payloads too large for the log go to a store, and a small reference to each goes through the log instead.

Names are those of ``temporalio.converter``; the pattern is known as "claim check" (Hohpe and Woolf, Enterprise
Integration Patterns). Invariants: a payload is in the store before its reference leaves the process; a reference names
its driver, so that a worker with several finds the right one; what is retrieved is what was stored, or an error. The
store comes after the codec, so what is stored is encrypted if the codec encrypts. Called by the data converter.

Nothing is ever deleted from a store here: a history may be read as long as it is retained, and longer in replay tests.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from perdure.converter._codec import PayloadCodec
from perdure_schemas.records import Payload

#: The encoding of a reference to a stored payload.
REFERENCE_ENCODING = b"json/external-storage-reference"
_THRESHOLD_DEFAULT_BYTES = 256 * 1024
_DIGEST_KEY = "sha256"


class PayloadNotStoredError(RuntimeError):
    """A payload is not in its store, or is not what was put there."""


@dataclass(frozen=True)
class StorageDriverClaim:
    """A driver's own note of where it put a payload.

    Attributes:
        claim_data: Text by text; small, because it goes through the log.
    """

    claim_data: Mapping[str, str]


@dataclass(frozen=True)
class StorageDriverStoreContext:
    """What a driver is told when it stores. Nothing yet; more may follow."""


@dataclass(frozen=True)
class StorageDriverSelectContext:
    """What a driver selector is told. Nothing yet; more may follow."""


@dataclass(frozen=True)
class StorageDriverRetrieveContext:
    """What a driver is told when it retrieves. Nothing yet; more may follow."""


class StorageDriver(ABC):
    """A store for payloads: a folder, an object store, a database. Write your own for what you have."""

    @abstractmethod
    def name(self) -> str:
        """The name of this store, as it stands in references: never rename a store that is in use."""

    def type(self) -> str:
        """The kind of store, for messages; the class's name if not overridden."""
        return type(self).__name__

    @abstractmethod
    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """Store payloads durably; one claim for each, in order.

        It may be called again with the same payloads, because whatever failed behind it is tried again.
        """

    @abstractmethod
    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """The payloads of claims, in order.

        Raises:
            Exception: one is not there.
        """


class FolderStorageDriver(StorageDriver):
    """Keeps payloads as files of a folder that all clients and workers can reach.

    A file is named by the SHA-256 of what is in it, so the same payload is stored once, and damage is found.

    Args:
        folder: The folder; made if it does not exist.
        name: The store's name.
    """

    def __init__(self, folder: str | os.PathLike[str], *, name: str = "folder") -> None:
        self._folder = Path(folder)
        self._name = name

    def name(self) -> str:
        """See the base class."""
        return self._name

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """See the base class."""
        return await asyncio.to_thread(lambda: [self._write(payload) for payload in payloads])

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """See the base class.

        Raises:
            PayloadNotStoredError: a file is missing or damaged.
        """
        return await asyncio.to_thread(lambda: [self._read(claim) for claim in claims])

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest[2:]

    def _write(self, payload: Payload) -> StorageDriverClaim:
        data = msgspec.msgpack.encode(payload)
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(path)
        return StorageDriverClaim({_DIGEST_KEY: digest})

    def _read(self, claim: StorageDriverClaim) -> Payload:
        digest = claim.claim_data.get(_DIGEST_KEY, "")
        if len(digest) != hashlib.sha256().digest_size * 2 or not digest.isalnum():
            raise PayloadNotStoredError(f"the claim {dict(claim.claim_data)} is none of store {self._name!r}")
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise PayloadNotStoredError(
                f"the payload {digest} is not in {self._folder}; does this process see the same folder as the one "
                "that stored it?"
            ) from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise PayloadNotStoredError(f"the file {path} is damaged: its digest is not its name")
        return msgspec.msgpack.decode(data, type=Payload)


@dataclass(frozen=True)
class ExternalStorage:
    """Which payloads are stored outside of the log, and where.

    Attributes:
        drivers: The stores; all of them can be read from.
        driver_selector: Chooses the store of a payload, or ``None`` to send it through the log after all. Needed with
            several drivers; with one, that one is taken.
        payload_size_threshold: Payloads of more bytes are stored; 256 KiB if not given, 0 for all.
    """

    drivers: Sequence[StorageDriver]
    driver_selector: Callable[[StorageDriverSelectContext, Payload], StorageDriver | None] | None = None
    payload_size_threshold: int = _THRESHOLD_DEFAULT_BYTES
    _by_name: Mapping[str, StorageDriver] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the drivers.

        Raises:
            ValueError: there is none, two have one name, there are several and no selector, or the threshold is
                negative.
        """
        by_name = {driver.name(): driver for driver in self.drivers}
        if not by_name:
            raise ValueError("ExternalStorage needs at least one driver")
        if len(by_name) < len(self.drivers):
            raise ValueError("two drivers of ExternalStorage have the same name; give each its own")
        if len(by_name) > 1 and self.driver_selector is None:
            raise ValueError("ExternalStorage has several drivers, so it needs a driver_selector")
        if self.payload_size_threshold < 0:
            raise ValueError(f"payload_size_threshold is {self.payload_size_threshold}; it cannot be negative")
        object.__setattr__(self, "_by_name", by_name)

    def driver_for(self, payload: Payload) -> StorageDriver | None:
        """Where a payload goes; ``None`` for the log.

        Raises:
            ValueError: the selector chose a driver that is not in the list.
        """
        if len(payload.data) <= self.payload_size_threshold:
            return None
        if self.driver_selector is None:
            return self.drivers[0]
        chosen = self.driver_selector(StorageDriverSelectContext(), payload)
        if chosen is not None and self._by_name.get(chosen.name()) is not chosen:
            raise ValueError(f"the driver_selector chose {chosen.name()!r}, which is none of the drivers")
        return chosen

    def driver_named(self, name: str) -> StorageDriver:
        """The driver a reference names.

        Raises:
            PayloadNotStoredError: there is none of that name.
        """
        driver = self._by_name.get(name)
        if driver is None:
            known = ", ".join(map(repr, self._by_name))
            raise PayloadNotStoredError(f"a payload is in the store {name!r}; this data converter has only {known}")
        return driver


class _Reference(msgspec.Struct):
    driver_name: str
    claim_data: dict[str, str]


class StoringCodec(PayloadCodec):
    """Stores large payloads after an inner codec encoded them, and gets them back before it decodes them.

    Args:
        storage: Which, and where.
        inner: The codec; ``None`` for none.
    """

    def __init__(self, storage: ExternalStorage, inner: PayloadCodec | None) -> None:
        self._storage = storage
        self._inner = inner

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """See the base class."""
        encoded = list(payloads) if self._inner is None else await self._inner.encode(payloads)
        by_driver: dict[str, list[int]] = {}
        for index, payload in enumerate(encoded):
            driver = self._storage.driver_for(payload)
            if driver is not None:
                by_driver.setdefault(driver.name(), []).append(index)
        for name, indexes in by_driver.items():
            driver = self._storage.driver_named(name)
            claims = await driver.store(StorageDriverStoreContext(), [encoded[index] for index in indexes])
            _check_count(driver, "claims", len(claims), len(indexes))
            for index, claim in zip(indexes, claims, strict=True):
                reference = _Reference(name, dict(claim.claim_data))
                encoded[index] = Payload(metadata={"encoding": REFERENCE_ENCODING}, data=msgspec.json.encode(reference))
        return encoded

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """See the base class."""
        found = list(payloads)
        by_driver: dict[str, list[tuple[int, StorageDriverClaim]]] = {}
        for index, payload in enumerate(found):
            if payload.metadata.get("encoding") == REFERENCE_ENCODING:
                reference = msgspec.json.decode(payload.data, type=_Reference)
                by_driver.setdefault(reference.driver_name, []).append(
                    (index, StorageDriverClaim(reference.claim_data))
                )
        for name, entries in by_driver.items():
            driver = self._storage.driver_named(name)
            retrieved = await driver.retrieve(StorageDriverRetrieveContext(), [claim for _, claim in entries])
            _check_count(driver, "payloads", len(retrieved), len(entries))
            for (index, _), payload in zip(entries, retrieved, strict=True):
                found[index] = payload
        return found if self._inner is None else await self._inner.decode(found)


def _check_count(driver: StorageDriver, what: str, given: int, expected: int) -> None:
    if given != expected:
        raise ValueError(f"storage driver {driver.name()!r} ({driver.type()}) gave {given} {what} for {expected}")
