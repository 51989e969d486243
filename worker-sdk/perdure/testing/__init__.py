"""Help for tests, with the names of ``temporalio.testing``; and fixtures, in :mod:`perdure.testing.pytest_plugin`.

The two classes are imported when they are used, because pytest imports this package in every run.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.testing._activity import ActivityEnvironment
    from perdure.testing._workflow import WorkflowEnvironment

__all__ = ["ActivityEnvironment", "WorkflowEnvironment"]


def __getattr__(name: str) -> Any:
    if name == "ActivityEnvironment":
        from perdure.testing._activity import ActivityEnvironment

        return ActivityEnvironment
    if name == "WorkflowEnvironment":
        from perdure.testing._workflow import WorkflowEnvironment

        return WorkflowEnvironment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
