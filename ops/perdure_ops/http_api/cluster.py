"""The platform itself over HTTP: what serves here, who owns which partition, and how far each group is."""

from __future__ import annotations

import asyncio
from datetime import datetime

import msgspec

from perdure_ops.group_lag import lags_of
from perdure_ops.http_api.context import Api
from perdure_ops.http_api.operations import Answer, Operations
from perdure_ops.partition_view import partition_rows
from perdure_runtime.clock import wall_clock_ms

__all__ = ["operation"]

operation = Operations("Cluster", "What serves here, who owns which partition, and how far each group is.")


class About(Answer, kw_only=True):
    """What serves here."""

    version: str
    namespace: str
    partitions: int


class PartitionView(msgspec.Struct, kw_only=True):
    """A partition of a role: who wrote its newest owner mark, and whom its group has given it to.

    ``lag`` is in records, ``null`` while nothing was committed; ``lag_s`` is the age of the oldest one in seconds.
    """

    role: str
    partition: int
    state: str
    owner: str | None
    epoch: int | None
    since: datetime | None
    member: str
    lag: int | None
    lag_s: float


class PartitionList(Answer, kw_only=True):
    """All partitions of all roles."""

    partitions: list[PartitionView]


class LagView(msgspec.Struct, kw_only=True):
    """How far a group is in a partition of its topic. ``lag`` is in records, ``lag_s`` the age of the oldest one."""

    group: str
    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int | None
    lag_s: float
    member: str


class LagList(Answer, kw_only=True):
    """All groups of the namespace."""

    lags: list[LagView]


@operation("GET", "/about")
async def about(api: Api) -> About:
    """Tell what serves here."""
    from importlib.metadata import version

    return About(version=version("perdure"), namespace=api.names.namespace, partitions=api.names.partitions)


@operation("GET", "/partitions")
async def list_partitions(api: Api) -> PartitionList:
    """Tell who owns which partition, and how far behind it is."""
    rows = await asyncio.to_thread(partition_rows, api.log, api.names)
    return PartitionList(partitions=msgspec.convert(rows, list[PartitionView]))


@operation("GET", "/lag")
async def list_lag(api: Api) -> LagList:
    """Tell how far every group is."""
    found = await asyncio.to_thread(lags_of, api.log, api.names)
    now_ms = wall_clock_ms()
    return LagList(
        lags=[
            LagView(
                group=lag.group.name,
                topic=lag.group.topic,
                partition=lag.partition,
                committed=lag.committed,
                end=lag.end,
                lag=lag.lag,
                lag_s=round(lag.age_s(now_ms), 3),
                member=lag.member,
            )
            for lag in found
        ]
    )
