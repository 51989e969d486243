"""The workflow's logger, and the functions under ``workflow.unsafe``. Called by user code."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from perdure._runtime.context import current_instance, maybe_current_instance


class LoggerAdapter(logging.LoggerAdapter[logging.Logger]):
    """A logger that adds facts about the workflow, and says nothing twice when a history is replayed.

    Attributes:
        workflow_info_on_message: Append some facts to the message.
        workflow_info_on_extra: Add a dict ``perdure_workflow`` of some facts to the log record.
        full_workflow_info_on_extra: Add ``workflow_info``, all the facts, to the log record.
        log_during_replay: Log on replay, too.
    """

    def __init__(self, logger: logging.Logger, extra: Mapping[str, Any] | None) -> None:
        super().__init__(logger, dict(extra or {}))
        self.workflow_info_on_message = True
        self.workflow_info_on_extra = True
        self.full_workflow_info_on_extra = False
        self.log_during_replay = False

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 # the name is logging's
        """Whether a message of that level is logged now: never on replay, unless ``log_during_replay``."""
        if not self.log_during_replay:
            instance = maybe_current_instance()
            if instance is not None and instance.replaying:
                return False
        return super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the facts to a message and its ``extra``."""
        extra = dict(self.extra or {})
        instance = maybe_current_instance()
        if instance is not None:
            details = instance.info.logger_details
            if self.workflow_info_on_message:
                msg = f"{msg} ({details})"
            if self.workflow_info_on_extra:
                extra["perdure_workflow"] = details
            if self.full_workflow_info_on_extra:
                extra["workflow_info"] = instance.info
        kwargs["extra"] = {**extra, **(kwargs.get("extra") or {})}
        return msg, kwargs

    @property
    def base_logger(self) -> logging.Logger:
        """The logger that messages go to."""
        return self.logger


#: The logger for workflow code.
logger = LoggerAdapter(logging.getLogger("perdure.workflow"), None)


class unsafe:  # noqa: N801 # used like a module
    """Functions to be used with care."""

    def __init__(self) -> None:
        """Not to be made."""
        raise TypeError("workflow.unsafe is not a class to make objects of; call its functions")

    @staticmethod
    def in_sandbox() -> bool:
        """Whether the code runs in a sandbox: never, there is none."""
        return False

    @staticmethod
    def is_replaying() -> bool:
        """Whether what the code does now was done before. Never decide anything by it that reaches the engine."""
        return current_instance().replaying

    @staticmethod
    def is_read_only() -> bool:
        """Whether the code may only read: in a query handler or a wait condition."""
        return current_instance().loop.read_only

    @staticmethod
    @contextmanager
    def imports_passed_through() -> Iterator[None]:
        """As :meth:`sandbox_unrestricted`; around imports, it lets modules read the clock while they are imported."""
        with unsafe.sandbox_unrestricted():
            yield None

    @staticmethod
    @contextmanager
    def sandbox_unrestricted() -> Iterator[None]:
        """Let the code within call what is not deterministic. Do not wait within: other code of the run would run."""
        instance = maybe_current_instance()
        if instance is None:
            yield None
            return
        instance.loop.guards_off += 1
        try:
            yield None
        finally:
            instance.loop.guards_off -= 1
