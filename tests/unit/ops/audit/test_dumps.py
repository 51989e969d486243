"""What is read from a dump is what was written, or an error says where it ends."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import pytest

from perdure_ops.audit.dumps import DumpHeader, read_dump, read_header, write_dump
from perdure_ops.errors import CliError
from perdure_runtime.log import LogRecord

HEADER = DumpHeader(prefix="perdure", namespace="prod", partitions=3, topics=["history", "tasks"], time_ms=17)
RECORDS = [
    LogRecord("perdure.prod.history", 2, 5, b"run/1@2.0", b"\x00\xff", 1_700_000_000_000, (("h", b"\x01"),)),
    LogRecord("perdure.prod.tasks", 0, 9, b"k", None, 1_700_000_000_001),
    LogRecord("perdure.prod.tasks", 0, 10, None, b"", 0),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "it.dump"
    assert write_dump(written, HEADER, RECORDS) == 3
    return written


def test_a_dump_is_read_as_it_was_written(path: Path) -> None:
    assert read_header(path) == HEADER
    assert read_header(path).names.history == "perdure.prod.history"
    assert list(read_dump(path)) == RECORDS


def test_a_dump_that_is_cut_off_says_so(path: Path) -> None:
    whole = gzip.decompress(path.read_bytes())
    for cut in (1, 5, 20):
        path.write_bytes(gzip.compress(whole[:-cut]))
        with pytest.raises(CliError, match="is cut off behind record"):
            list(read_dump(path))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CliError, match="is cut off behind record"):
        list(read_dump(path))


def test_a_file_that_is_no_dump(path: Path) -> None:
    for content in (
        b"",
        b"hello",
        gzip.compress(b""),
        gzip.compress(b"hello, this is a text"),
        gzip.compress(b"\xff" * 9),
    ):
        path.write_bytes(content)
        with pytest.raises(CliError, match="is no dump"):
            read_header(path)
    with pytest.raises(CliError, match="cannot be read"):
        read_header(path.parent / "nothing")


def test_a_dump_of_a_newer_version_is_refused(path: Path) -> None:
    write_dump(path, msgspec.structs.replace(HEADER, version=2), [])
    with pytest.raises(CliError, match="has version 2; this program reads 1"):
        read_header(path)


def test_a_dump_that_lost_a_record_says_so(path: Path) -> None:
    whole = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(whole[:-1] + b"\x07"))  # the number of records
    with pytest.raises(CliError, match="it says 7 records and holds 3"):
        list(read_dump(path))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="cannot be written"):
        write_dump(tmp_path / "no" / "it.dump", HEADER, [])
