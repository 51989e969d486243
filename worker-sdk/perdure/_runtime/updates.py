"""Updates of one run: validating, accepting, running the handler, and saying how it ended.

Invariants: updates are delivered one after the other, each after the run has gone as far as it can with those before; a
validator changes nothing, so one that refuses leaves no trace and a replay, which delivers accepted updates only and
does not validate them again, does the same steps; an update that was accepted is never started twice. Owned by the
instance.
"""

from __future__ import annotations

import asyncio
import contextvars
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure._runtime.errors import ContinueAsNewError, NondeterminismError
from perdure._runtime.handler_definitions import HandlerUnfinishedPolicy, check_handler
from perdure._runtime.handlers import decoded_arguments
from perdure._runtime.update_definition import (
    UnfinishedUpdateHandlersWarning,
    UpdateDefinition,
    UpdateInfo,
    check_validator,
)
from perdure.converter import PayloadConverter
from perdure.exceptions import PerdureError, is_cancelled_exception
from perdure_schemas.records import AcceptUpdate, CompleteUpdate, Failure, RejectUpdate, UpdateRequest

if TYPE_CHECKING:
    from perdure._runtime.instance import WorkflowInstance

_current: contextvars.ContextVar[UpdateInfo | None] = contextvars.ContextVar("perdure_update", default=None)


class UpdateNotFoundError(PerdureError):
    """A workflow has no handler for an update, and no dynamic one."""


def current_update_info() -> UpdateInfo | None:
    """The update whose handler or validator the running code belongs to."""
    return _current.get()


class Updates:
    """The updates of one run, and their handlers. ``instance.object`` must exist before the first one is delivered."""

    def __init__(
        self,
        instance: WorkflowInstance,
        definitions: Mapping[str | None, UpdateDefinition],
        payload_converter: PayloadConverter,
    ) -> None:
        self._instance = instance
        self._payload_converter = payload_converter
        self._definitions = dict(definitions)
        self._accepted: set[str] = set()
        self._running: dict[str, UpdateDefinition] = {}

    @property
    def all_finished(self) -> bool:
        """Whether no handler runs."""
        return not self._running

    # --- delivering ---------------------------------------------------------------------------------------------

    def deliver(self, request: UpdateRequest) -> bool:
        """Accept an update and put its handler on the loop, or reject it. True if it was accepted."""
        instance = self._instance
        if request.update_id in self._accepted:
            return False
        context = contextvars.copy_context()
        context.run(_current.set, UpdateInfo(request.update_id, request.name))
        definition = self._definitions.get(request.name) or self._definitions.get(None)
        try:
            if definition is None:
                raise self._not_found(request)
            args = decoded_arguments(definition, request.name, request.input, self._payload_converter)
            if not instance.replaying:
                context.run(self._validate, request, args)
        except Exception as error:
            if instance.replaying:
                instance.end_with(
                    NondeterminismError(
                        f"the history says that update {request.name!r} (id {request.update_id!r}) was accepted, but "
                        f"the workflow code cannot take it: {error}"
                    )
                )
            else:
                instance.add_message(RejectUpdate(update_id=request.update_id, failure=self._failure_of(error)))
            return False
        self._accepted.add(request.update_id)
        self._running[request.update_id] = definition
        instance.add_message(AcceptUpdate(request=request))
        fn = self._bound(definition, definition.fn)
        if instance.interception is not None:
            fn = partial(instance.interception.handle_update, request.update_id, request.name, request.header)
        if definition.is_async or instance.interception is not None:
            instance.loop.create_task(
                self._run_async(request.update_id, fn, args),
                name=f"update-{request.name}-{request.update_id}",
                context=context,
            )
        else:
            instance.loop.call_soon(self._run_sync, request.update_id, fn, args, context=context)
        return True

    def _not_found(self, request: UpdateRequest) -> UpdateNotFoundError:
        known = " ".join(sorted(name for name in self._definitions if name is not None))
        return UpdateNotFoundError(
            f"Update handler for '{request.name}' expected but not found, and there is no dynamic handler. "
            f"known updates: [{known}]"
        )

    def _validate(self, request: UpdateRequest, args: list[Any]) -> None:
        loop, interception = self._instance.loop, self._instance.interception
        loop.read_only = True
        try:
            if interception is not None:
                interception.validate_update(request.update_id, request.name, args, request.header)
            else:
                self.validate(request.name, args)
        finally:
            loop.read_only = False

    def validate(self, name: str, args: list[Any]) -> None:
        """Call the validator of an update, if there is one; what it raises rejects the update."""
        definition = self._definitions.get(name) or self._definitions.get(None)
        if definition is not None and definition.validator is not None:
            self._bound(definition, definition.validator)(*args)

    # --- running ------------------------------------------------------------------------------------------------

    async def _run_async(self, update_id: str, fn: Callable[..., Any], args: list[Any]) -> None:
        try:
            result = await fn(*args)
        except BaseException as error:
            self._fail(update_id, error)
        else:
            self._complete(update_id, result)

    def _run_sync(self, update_id: str, fn: Callable[..., Any], args: list[Any]) -> None:
        try:
            result = fn(*args)
        except BaseException as error:
            self._fail(update_id, error)
            return
        if asyncio.iscoroutine(result):
            self._instance.loop.create_task(self._run_async(update_id, lambda: result, []), name=f"update-{update_id}")
        else:
            self._complete(update_id, result)

    def _complete(self, update_id: str, result: Any) -> None:
        try:
            payloads = self._payload_converter.to_payloads([result])
        except Exception as error:
            self._fail(update_id, error)
            return
        self._running.pop(update_id, None)
        self._instance.add_message(CompleteUpdate(update_id=update_id, result=payloads))

    def _fail(self, update_id: str, error: BaseException) -> None:
        """An exception left a handler: it fails the update, or the workflow task, as it would from the run method."""
        self._running.pop(update_id, None)
        instance = self._instance
        fails_update = is_cancelled_exception(error) or instance.is_failure_exception(error)
        if instance.loop.closing or isinstance(error, ContinueAsNewError) or not fails_update:
            instance.end_with(error)
        else:
            instance.add_message(CompleteUpdate(update_id=update_id, failure=self._failure_of(error)))

    def _failure_of(self, error: BaseException) -> Failure:
        return self._instance.settings.failure_converter.to_failure(error, self._payload_converter)

    def warn_unfinished(self) -> None:
        """Warn of handlers that a closing run leaves unfinished, as their policy says."""
        names = sorted(
            f"{definition.name} (id {update_id})"
            for update_id, definition in self._running.items()
            if definition.unfinished_policy is HandlerUnfinishedPolicy.WARN_AND_ABANDON
        )
        if names:
            warnings.warn(
                f"workflow {self._instance.info.workflow_id} ended while update handlers were still running: "
                f"{', '.join(names)}. Their senders get an error. Wait for them with "
                "workflow.wait_condition(workflow.all_handlers_finished), or declare that they may be dropped with "
                "unfinished_policy=HandlerUnfinishedPolicy.ABANDON",
                UnfinishedUpdateHandlersWarning,
                stacklevel=2,
            )

    # --- handlers -----------------------------------------------------------------------------------------------

    def handler(self, name: str | None) -> Callable[..., Any] | None:
        """The handler of an update, or the dynamic one for ``None``."""
        definition = self._definitions.get(name)
        return None if definition is None else self._bound(definition, definition.fn)

    def set_handler(
        self, name: str | None, handler: Callable[..., Any] | None, validator: Callable[..., None] | None
    ) -> None:
        """Set or remove a handler."""
        self._instance.loop.require_writable("set an update handler")
        if handler is None:
            if validator is not None:
                raise TypeError("an update validator was given without a handler")
            self._definitions.pop(name, None)
            return
        check_handler(handler, "update", is_method=False, dynamic=name is None)
        if validator is not None:
            check_validator(validator, handler, is_method=False)
        self._definitions[name] = UpdateDefinition(name=name, fn=handler, is_method=False, validator=validator)

    def _bound(self, definition: UpdateDefinition, fn: Callable[..., Any]) -> Callable[..., Any]:
        bound: Callable[..., Any] = fn.__get__(self._instance.object) if definition.is_method else fn
        return bound
