"""Versions of workers as users name them: what is checked, and what goes into the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from perdure import workflow
from perdure._versioning import checked_config, override_record
from perdure.common import (
    AutoUpgradeVersioningOverride,
    PinnedVersioningOverride,
    RawValue,
    VersioningBehavior,
    WorkerDeploymentVersion,
)
from perdure.worker import WorkerDeploymentConfig
from perdure.worker._options import deployment_of
from perdure.workflow import ContinueAsNewVersioningBehavior, DynamicWorkflowConfig
from perdure_schemas import keys, records

V1 = WorkerDeploymentVersion("orders", "1.0.3")


@workflow.defn(versioning_behavior=VersioningBehavior.PINNED)
class Pinned:
    @workflow.run
    async def run(self) -> None:
        return None


@workflow.defn
class Silent:
    @workflow.run
    async def run(self) -> None:
        return None


@workflow.defn(dynamic=True)
class Dynamic:
    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> None:
        return None

    @workflow.dynamic_config
    def config(self) -> DynamicWorkflowConfig:
        return DynamicWorkflowConfig(versioning_behavior=VersioningBehavior.PINNED)


def test_a_version_is_one_text() -> None:
    assert V1.to_canonical_string() == "orders.1.0.3" == keys.version_name("orders", "1.0.3")
    assert WorkerDeploymentVersion.from_canonical_string("orders.1.0.3") == V1
    with pytest.raises(ValueError, match="'orders' is no worker version"):
        WorkerDeploymentVersion.from_canonical_string("orders")


def test_behaviors_have_the_known_numbers() -> None:
    assert [(one.name, int(one)) for one in VersioningBehavior] == [
        ("UNSPECIFIED", 0),
        ("PINNED", 1),
        ("AUTO_UPGRADE", 2),
    ]
    assert [int(one) for one in ContinueAsNewVersioningBehavior] == [0, 1, 2]
    assert VersioningBehavior.PINNED.to_record() is records.VersioningBehavior.PINNED


def test_overrides_as_the_log_has_them() -> None:
    assert override_record(None) is None
    assert override_record(PinnedVersioningOverride(V1)) == records.VersioningOverride(pinned_version="orders.1.0.3")
    assert override_record(AutoUpgradeVersioningOverride()) == records.VersioningOverride()
    with pytest.raises(TypeError, match="PinnedVersioningOverride"):
        override_record("orders.1")


@pytest.mark.parametrize(
    "version",
    [
        WorkerDeploymentVersion("", "1"),
        WorkerDeploymentVersion("a.b", "1"),
        WorkerDeploymentVersion("a/b", "1"),
        WorkerDeploymentVersion("a", ""),
        WorkerDeploymentVersion("a", "1/2"),
        WorkerDeploymentVersion("a", "1\n"),
        WorkerDeploymentVersion("a", "1" * 2_000),
    ],
)
def test_names_that_cannot_be_used_are_refused(version: WorkerDeploymentVersion) -> None:
    with pytest.raises(ValueError, match=r"deployment name|build id"):
        checked_config(WorkerDeploymentConfig(version, use_worker_versioning=True))
    with pytest.raises(ValueError, match=r"deployment name|build id"):
        override_record(PinnedVersioningOverride(version))


@pytest.mark.parametrize("name", ["a.b/c", "x"])
def test_keys_of_versions_are_read_back(name: str) -> None:
    assert keys.parse_version_seen_key(keys.version_seen_key("d.1.0", name)) == ("d.1.0", name)
    assert keys.parse_version_seen_key(keys.routing_key(name)) is None


def test_every_workflow_of_a_versioned_worker_says_how_it_moves() -> None:
    config = WorkerDeploymentConfig(V1, use_worker_versioning=True)
    assert deployment_of(config, None, [Pinned, Dynamic]) is config
    with pytest.raises(ValueError, match="workflow Silent does not say"):
        deployment_of(config, None, [Pinned, Silent])
    for allowed in (
        WorkerDeploymentConfig(V1, True, VersioningBehavior.AUTO_UPGRADE),
        WorkerDeploymentConfig(V1, use_worker_versioning=False),
    ):
        assert deployment_of(allowed, None, [Silent]) is allowed


@pytest.mark.parametrize(
    ("config", "build_id", "error", "message"),
    [
        (WorkerDeploymentConfig(V1, False, VersioningBehavior.PINNED), None, ValueError, "default_versioning_behavior"),
        (WorkerDeploymentConfig(V1, True), "1", ValueError, "not both"),
        ("orders.1", None, TypeError, "WorkerDeploymentConfig"),
    ],
)
def test_what_makes_no_sense_together_is_refused(
    config: Any, build_id: str | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        deployment_of(config, build_id, [Pinned])


def test_a_dynamic_config_belongs_to_a_dynamic_workflow() -> None:
    with pytest.raises(ValueError, match="must not be async"):

        @workflow.dynamic_config  # type: ignore[arg-type]
        async def later(self: Any) -> DynamicWorkflowConfig:
            return DynamicWorkflowConfig()

    with pytest.raises(ValueError, match="self as its only parameter"):

        @workflow.dynamic_config  # type: ignore[arg-type]
        def more(self: Any, what: str) -> DynamicWorkflowConfig:
            return DynamicWorkflowConfig()

    with pytest.raises(ValueError, match="so it must be dynamic"):

        @workflow.defn
        class Static:
            @workflow.run
            async def run(self) -> None:
                return None

            @workflow.dynamic_config
            def config(self) -> DynamicWorkflowConfig:
                return DynamicWorkflowConfig()
