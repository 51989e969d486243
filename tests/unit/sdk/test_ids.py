"""Ids are unique, in a forked process too."""

from __future__ import annotations

import multiprocessing
import uuid

from perdure._ids import new_id, new_run_id


def _send_ids(connection: multiprocessing.connection.Connection) -> None:  # type: ignore[name-defined]
    connection.send([new_id() for _ in range(3)])


def test_ids_are_unique_and_run_ids_are_uuids() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000
    assert uuid.UUID(new_run_id()).version == 4


def test_a_forked_process_makes_other_ids() -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_send_ids, args=(there,))
    process.start()
    theirs = here.recv()
    process.join(10)
    assert not set(theirs) & {new_id() for _ in range(3)}
