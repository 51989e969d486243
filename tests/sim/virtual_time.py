"""The virtual clock and seeded ids in the modules of the SDK, for the time of a simulation.

A record is decoded once, and not by each of the ten that read it: records are immutable, and whoever changed one would
be found out here.
"""

from __future__ import annotations

import gc
import random
import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import perdure._connection
import perdure._ids
import perdure._runtime.runner
import perdure.worker._dispatch
import perdure.worker._tuning
from perdure_schemas import codec, keys
from perdure_schemas.records import Record
from tests.sim.world import World

_guarded: set[type] = set()
_MODULES = (perdure._connection, perdure.worker._dispatch, perdure.worker._tuning)


@contextmanager
def virtual_time(world: World) -> Iterator[None]:
    """Within this, the SDK sees the clock of ``world`` and names things by its seed."""
    clock = types.SimpleNamespace(
        monotonic=world.monotonic_s,
        time=world.monotonic_s,
        time_ns=lambda: world.now_ms * 1_000_000,
    )
    before = [(module, module.time) for module in _MODULES]  # type: ignore[attr-defined]
    generator = perdure._ids._generator
    guard = perdure._runtime.runner.guard

    def guard_once(workflow_class: type) -> Iterator[str]:
        """Workers come and go here by the hundred, and their code is the same."""
        if workflow_class not in _guarded:
            _guarded.add(workflow_class)
            yield from guard(workflow_class)

    decode = codec.decode
    decoded: dict[bytes | None, Record] = {}

    def decode_once(data: bytes | None) -> Record:
        record = decoded.get(data)
        if record is None:
            record = decoded[data] = decode(data)
        return record

    parse = keys.parse_fenced_key
    collecting = gc.isenabled()
    gc.disable()  # when it runs depends on everything that ran before
    try:
        for module in _MODULES:
            module.time = clock  # type: ignore[attr-defined]
        perdure._runtime.runner.guard = guard_once  # type: ignore[attr-defined]
        perdure._ids._generator = random.Random(f"ids-{world.seed}")
        codec.decode = decode_once
        keys.parse_fenced_key = cache(parse)
        yield
    finally:
        codec.decode = decode
        keys.parse_fenced_key = parse
        perdure._runtime.runner.guard = guard  # type: ignore[attr-defined]
        perdure._ids._generator = generator
        for module, real in before:
            module.time = real  # type: ignore[attr-defined]
        if collecting:
            gc.enable()
