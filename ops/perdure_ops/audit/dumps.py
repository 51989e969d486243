"""Dumps: the records of a namespace's topics in one file, to be looked at where the cluster is not.

The file is gzip; inside are frames of a four-byte length (big-endian) and that many bytes of MessagePack: first a
:class:`DumpHeader`, then one array ``[topic, partition, offset, key, value, timestamp_ms, headers]`` for each record,
last the number of records, without which a dump is cut off. Keys hold the epoch of their writer. Invariant: what is
read is what was written, or an error says where it ends. Called by ``perdure dump`` and ``perdure audit --dump``.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from perdure_ops.errors import CliError
from perdure_runtime.log import LogRecord
from perdure_schemas.topics import RECORD_BYTES_MAX, TopicNames

__all__ = ["DumpHeader", "read_dump", "read_header", "write_dump"]

_FORMAT = "perdure-dump"
_VERSION = 1
_FRAME_BYTES_MAX = 2 * RECORD_BYTES_MAX
_COMPRESSION = 1
_encode = msgspec.msgpack.Encoder().encode


class DumpHeader(msgspec.Struct, kw_only=True):
    """What a dump is of.

    Attributes:
        topics: names of the topics behind prefix and namespace, each from its first record kept to its end at the time.
        time_ms: when it was made.
    """

    format: str = _FORMAT
    version: int = _VERSION
    prefix: str
    namespace: str
    partitions: int
    topics: list[str]
    time_ms: int

    @property
    def names(self) -> TopicNames:
        """The namespace."""
        return TopicNames(self.namespace, self.prefix, self.partitions)


_Row = tuple[str, int, int, bytes | None, bytes | None, int, list[tuple[str, bytes]]]
_decode_header = msgspec.msgpack.Decoder(DumpHeader).decode
_decode_row = msgspec.msgpack.Decoder(_Row | int).decode


def write_dump(path: Path, header: DumpHeader, records: Iterable[LogRecord]) -> int:
    """Write a dump; returns the number of records.

    Raises:
        CliError: the file cannot be written.
    """
    count = 0
    try:
        with gzip.open(path, "wb", compresslevel=_COMPRESSION) as file:
            _write(file, _encode(header))
            for record in records:
                _write(file, _encode(tuple(record)))
                count += 1
            _write(file, _encode(count))
    except OSError as error:
        raise CliError(f"the dump {path} cannot be written: {error.strerror or error}", 2) from error
    return count


def _write(file: gzip.GzipFile, data: bytes) -> None:
    file.write(len(data).to_bytes(4, "big"))
    file.write(data)


def read_header(path: Path) -> DumpHeader:
    """What a dump is of.

    Raises:
        CliError: it is no dump, or one of a newer version.
    """
    return next(_frames(path))[0]


def read_dump(path: Path) -> Iterator[LogRecord]:
    """The records of a dump, in the order in which they were written.

    Raises:
        CliError: it is no dump, of a newer version, damaged, or cut off.
    """
    count = 0
    for _, frame in _frames(path):
        if frame is None:
            continue
        try:
            row = _decode_row(frame)
        except msgspec.DecodeError as error:
            raise CliError(f"the dump {path} is damaged behind record {count}: {error}", 2) from error
        if isinstance(row, int):
            if row != count:
                raise CliError(f"the dump {path} is damaged: it says {row} records and holds {count}", 2)
            return
        topic, partition, offset, key, value, time_ms, headers = row
        count += 1
        yield LogRecord(topic, partition, offset, key, value, time_ms, tuple(headers))
    raise CliError(f"the dump {path} is cut off behind record {count}: make it again with `perdure dump`", 2)


def _frames(path: Path) -> Iterator[tuple[DumpHeader, bytes | None]]:
    """The header, first alone, then with each frame behind it."""
    try:
        with gzip.open(path, "rb") as file:
            first = _read(file)
            try:
                header = _decode_header(first or b"")
            except msgspec.DecodeError:
                header = None
            if header is None or header.format != _FORMAT:
                raise CliError(f"{path} is no dump: make one with `perdure dump`", 2)
            if header.version > _VERSION:
                raise CliError(f"the dump {path} has version {header.version}; this program reads {_VERSION}", 2)
            yield header, None
            while (frame := _read(file)) is not None:
                yield header, frame
    except (gzip.BadGzipFile, zlib.error) as error:
        raise CliError(f"{path} is no dump, or is damaged: {error}", 2) from error
    except EOFError:
        return
    except OSError as error:
        raise CliError(f"the dump {path} cannot be read: {error.strerror or error}", 2) from error


def _read(file: gzip.GzipFile) -> bytes | None:
    length = file.read(4)
    if len(length) < 4:
        return None
    size = int.from_bytes(length, "big")
    if size > _FRAME_BYTES_MAX:
        raise zlib.error(f"a frame of {size} bytes")
    data = file.read(size)
    return data if len(data) == size else None
