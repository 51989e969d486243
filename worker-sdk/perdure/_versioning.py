"""Versions of workers, as users name them: shared by the client, the worker and workflow code.

Names, fields and defaults are those of the ``temporalio`` package. Invariant: plain immutable data. Called by
:mod:`perdure.common`, which is where users find it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum

from perdure_schemas import records
from perdure_schemas.keys import version_fault, version_name


class VersioningBehavior(IntEnum):
    """Whether a run stays with the version of workers it began on."""

    UNSPECIFIED = 0
    #: It stays with one version for its whole life.
    PINNED = 1
    #: Its next workflow task goes to the version that is current then; its code must be able to go on (``patched``).
    AUTO_UPGRADE = 2

    def to_record(self) -> records.VersioningBehavior:
        """As it is written to the log."""
        return records.VersioningBehavior[self.name]


@dataclass(frozen=True)
class WorkerDeploymentVersion:
    """One version of a deployment's workers.

    Attributes:
        deployment_name: The deployment: workers that do the same and are rolled out together. Without ``.`` and ``/``.
        build_id: Names the build of the code. Without ``/``.
    """

    deployment_name: str
    build_id: str

    def to_canonical_string(self) -> str:
        """Both in one text, ``<deployment_name>.<build_id>``."""
        return f"{self.deployment_name}.{self.build_id}"

    @staticmethod
    def from_canonical_string(canonical: str) -> WorkerDeploymentVersion:
        """The version in a text made by :meth:`to_canonical_string`.

        Raises:
            ValueError: it has another form.
        """
        name, dot, build_id = canonical.partition(".")
        if not dot:
            raise ValueError(f"{canonical!r} is no worker version; write <deployment_name>.<build_id>")
        return WorkerDeploymentVersion(name, build_id)

    def checked(self) -> WorkerDeploymentVersion:
        """Itself.

        Raises:
            ValueError: a name in it is empty, too long, or has characters that are not allowed.
        """
        fault = version_fault(self.deployment_name, self.build_id)
        if fault or not self.deployment_name:
            raise ValueError(fault or "the deployment name of a worker version is empty")
        return self


class VersioningOverride(ABC):
    """What counts for a run instead of the versioning behavior in its code. Use one of the subclasses."""

    @abstractmethod
    def to_record(self) -> records.VersioningOverride:
        """As it is written to the log.

        Raises:
            ValueError: the version in it has no usable name.
        """


@dataclass(frozen=True)
class PinnedVersioningOverride(VersioningOverride):
    """Keep the run on this version, whatever is current."""

    version: WorkerDeploymentVersion

    def to_record(self) -> records.VersioningOverride:
        """As it is written to the log."""
        version = self.version.checked()
        return records.VersioningOverride(pinned_version=version_name(version.deployment_name, version.build_id))


@dataclass(frozen=True)
class AutoUpgradeVersioningOverride(VersioningOverride):
    """Let the run move to the version that is current, even if its code says that it is pinned."""

    def to_record(self) -> records.VersioningOverride:
        """As it is written to the log."""
        return records.VersioningOverride()


def override_record(override: object) -> records.VersioningOverride | None:
    """An override as it is written to the log.

    Raises:
        TypeError: it is none. ValueError: the version in it has no usable name.
    """
    if override is None:
        return None
    if not isinstance(override, VersioningOverride):
        raise TypeError(
            f"versioning_override is a {type(override).__name__}; give a PinnedVersioningOverride or an "
            "AutoUpgradeVersioningOverride"
        )
    return override.to_record()


@dataclass
class WorkerDeploymentConfig:
    """The version a worker is of.

    Attributes:
        version: The version.
        use_worker_versioning: Take only tasks that are routed to this version; else the version is told to histories,
            and the worker takes tasks of no version.
        default_versioning_behavior: For workflows whose definition does not say.
    """

    version: WorkerDeploymentVersion
    use_worker_versioning: bool
    default_versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED


def checked_config(config: object) -> WorkerDeploymentConfig | None:
    """What was given as ``deployment_config``.

    Raises:
        TypeError, ValueError: it makes no sense.
    """
    if config is None:
        return None
    if not isinstance(config, WorkerDeploymentConfig):
        raise TypeError(f"deployment_config is a {type(config).__name__}; give a WorkerDeploymentConfig")
    config.version.checked()
    if not config.use_worker_versioning and config.default_versioning_behavior:
        raise ValueError("default_versioning_behavior means nothing with use_worker_versioning=False; leave it out")
    return config
