# ruff: noqa: ASYNC109 # the names of the parameters are those of temporalio
"""What workflow code can ask and do besides activities: time, randomness, waiting, facts about the run, its handlers.

Names, parameters and defaults are those of ``temporalio.workflow``. Everything raises ``NotInWorkflowError`` outside of
workflow code. Called by user code.
"""

from __future__ import annotations

import random as _random_module
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, TypeVar, overload

from perdure._callables import UNSET
from perdure._runtime import waiting
from perdure._runtime.context import current_instance, maybe_current_instance
from perdure._runtime.info import Info, moment
from perdure.converter import PayloadConverter

_AnyT = TypeVar("_AnyT")
_HintT = TypeVar("_HintT")
_RANDOM_BITS = 128
_MILLISECOND_BITS = 48


def in_workflow() -> bool:
    """Whether the code runs in a workflow."""
    return maybe_current_instance() is not None


def info() -> Info:
    """Facts about the running workflow."""
    instance = current_instance()
    return instance.info if instance.interception is None else instance.interception.outbound.info()


def extern_functions() -> Mapping[str, Callable[..., Any]]:
    """The functions that the worker's interceptors put in, for workflow interceptors; not for workflow code."""
    return current_instance().settings.extern_functions


def instance() -> Any:
    """The running workflow's object, of the class that is decorated with ``workflow.defn``."""
    return current_instance().object


def payload_converter() -> PayloadConverter:
    """The payload converter of the worker."""
    return current_instance().settings.payload_converter


def is_failure_exception(err: BaseException) -> bool:
    """Whether an exception, if it left the run method, would end the workflow rather than fail the workflow task."""
    return current_instance().is_failure_exception(err)


def cancellation_reason() -> str | None:
    """The reason given with the request to cancel this workflow (maybe empty), or ``None`` if there was no request."""
    return current_instance().cancellation_reason


# --- time -------------------------------------------------------------------------------------------------------------


def now() -> datetime:
    """The workflow's time, aware and in UTC: when the current workflow task began. It is the same on replay."""
    return moment(current_instance().loop.now_ms)


def time() -> float:
    """The workflow's time in seconds since 1970."""
    return current_instance().loop.time()


def time_ns() -> int:
    """The workflow's time in nanoseconds since 1970."""
    return current_instance().loop.now_ms * 1_000_000


async def sleep(duration: float | timedelta, *, summary: str | None = None) -> None:
    """Sleep on a durable timer. ``asyncio.sleep`` does the same, without a summary.

    Args:
        duration: Seconds, or a timedelta; rounded up to whole milliseconds. Zero or less starts no timer: other tasks
            of the workflow run, then this one goes on.
        summary: A line that shows with the timer in the history.
    """
    await waiting.sleep(current_instance().loop, _seconds(duration), summary)


async def wait_condition(
    fn: Callable[[], bool], *, timeout: timedelta | float | None = None, timeout_summary: str | None = None
) -> None:
    """Wait until a condition is met. It is asked at once, and then after each step of the workflow.

    Args:
        fn: The condition: a plain function that reads the workflow's state and changes nothing.
        timeout: How long to wait, in seconds or as a timedelta; without limit, and without a timer, if ``None``. To
            change between ``None`` and a time is a change of the workflow's behaviour.
        timeout_summary: A line that shows with the timer in the history.

    Raises:
        asyncio.TimeoutError: it was not met in time; at once if ``timeout`` is zero and it is not met now.
    """
    timeout_s = None if timeout is None else _seconds(timeout)
    await waiting.wait_condition(current_instance().loop, fn, timeout_s, timeout_summary)


def _seconds(duration: float | timedelta) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


# --- randomness -------------------------------------------------------------------------------------------------------


def random() -> _random_module.Random:
    """The workflow's random generator. It gives the same numbers on replay; it is not for secrets."""
    return current_instance().random


def random_seed() -> int:
    """The seed of the workflow's random generator, derived from the run id."""
    return current_instance().seed


def new_random(name: str | None = None) -> _random_module.Random:
    """A random generator of its own, so that its user's numbers do not depend on who else draws some.

    Args:
        name: Goes into the seed. Without a name the generator starts out as :func:`random` did.
    """
    seed = current_instance().seed
    if name is not None:
        seed = int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=8).digest())
    return _random_module.Random(seed)  # noqa: S311 # deterministic on purpose


def uuid4() -> uuid.UUID:
    """A random UUID that is the same on replay; it is not for secrets."""
    return uuid.UUID(int=current_instance().random.getrandbits(_RANDOM_BITS), version=4)


def uuid7() -> uuid.UUID:
    """A UUID that sorts by the workflow's time, to the millisecond; the same on replay, and not for secrets."""
    instance = current_instance()
    value = (instance.loop.now_ms & ((1 << _MILLISECOND_BITS) - 1)) << (_RANDOM_BITS - _MILLISECOND_BITS)
    value |= instance.random.getrandbits(_RANDOM_BITS - _MILLISECOND_BITS)
    # RFC 9562: version 7 in bits 76 to 79, variant 0b10 in bits 62 and 63.
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


# --- memo and patches -------------------------------------------------------------------------------------------------


def memo() -> Mapping[str, Any]:
    """The workflow's memo, decoded without type hints."""
    converter = payload_converter()
    return {key: converter.from_payload(payload) for key, payload in info().raw_memo.items()}


@overload
def memo_value(key: str, default: Any = ...) -> Any: ...


@overload
def memo_value(key: str, *, type_hint: type[_HintT]) -> _HintT: ...


@overload
def memo_value(key: str, default: _AnyT, *, type_hint: type[_HintT]) -> _AnyT | _HintT: ...


def memo_value(key: str, default: Any = UNSET, *, type_hint: Any = None) -> Any:
    """One value of the memo.

    Args:
        key: Its key.
        default: What to return if there is none.
        type_hint: The type to decode it to.

    Raises:
        KeyError: there is none, and no default.
    """
    payload = info().raw_memo.get(key)
    if payload is not None:
        return payload_converter().from_payload(payload, type_hint)
    if default is UNSET:
        raise KeyError(f"the workflow's memo has no value for {key!r}")
    return default


def patched(id: str) -> bool:
    """Whether to take the new way at a place where the workflow code was changed.

    True if this run came here for the first time with the new code (a marker is written to its history), and on replay
    if the marker is there; false on replay of a history without it. The answer for an id stays the same in a run.

    Args:
        id: A name for the change.
    """
    return current_instance().patched(id, deprecated=False)


def deprecate_patch(id: str) -> None:
    """Say that the old way of a patch is gone. The marker is still written, but code without this call replays it, too.

    Args:
        id: The name given to :func:`patched`.
    """
    current_instance().patched(id, deprecated=True)


# --- handlers ---------------------------------------------------------------------------------------------------------


def all_handlers_finished() -> bool:
    """Whether no signal or update handler runs. To wait for that: ``await wait_condition(all_handlers_finished)``."""
    instance = current_instance()
    return instance.handlers.all_finished and instance.updates.all_finished


def get_signal_handler(name: str) -> Callable[..., Any] | None:
    """The handler of a signal, decorated or set, or ``None``."""
    return current_instance().handlers.signal_handler(name)


def set_signal_handler(name: str, handler: Callable[..., Any] | None) -> None:
    """Set the handler of a signal, or remove it. Signals of that name that waited for one are handled in order.

    Raises:
        TypeError: the function cannot be a handler.
    """
    current_instance().handlers.set_signal_handler(name, handler)


def get_dynamic_signal_handler() -> Callable[..., Any] | None:
    """The handler of all signals that have no handler of their own, or ``None``."""
    return current_instance().handlers.signal_handler(None)


def set_dynamic_signal_handler(handler: Callable[..., Any] | None) -> None:
    """Set or remove the handler of all signals that have none of their own. It gets all signals that waited, in order.

    Raises:
        TypeError: the function does not take ``(name, args)``.
    """
    current_instance().handlers.set_signal_handler(None, handler)


def get_query_handler(name: str) -> Callable[..., Any] | None:
    """The handler of a query, decorated or set, or ``None``."""
    return current_instance().handlers.query_handler(name)


def set_query_handler(name: str, handler: Callable[..., Any] | None) -> None:
    """Set the handler of a query, or remove it.

    Raises:
        TypeError: the function cannot be a handler.
    """
    current_instance().handlers.set_query_handler(name, handler)


def get_dynamic_query_handler() -> Callable[..., Any] | None:
    """The handler of all queries that have no handler of their own, or ``None``."""
    return current_instance().handlers.query_handler(None)


def set_dynamic_query_handler(handler: Callable[..., Any] | None) -> None:
    """Set or remove the handler of all queries that have none of their own.

    Raises:
        TypeError: the function does not take ``(name, args)``.
    """
    current_instance().handlers.set_query_handler(None, handler)
