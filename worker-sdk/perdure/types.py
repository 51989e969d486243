"""Shapes of the functions users pass in, so that a type checker carries their types through our calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, Protocol, TypeVar

AnyType = TypeVar("AnyType")
CallableType = TypeVar("CallableType", bound=Callable[..., Any])
MultiParamSpec = ParamSpec("MultiParamSpec")
SelfType = TypeVar("SelfType")
ParamType = TypeVar("ParamType")
ReturnType = TypeVar("ReturnType", covariant=True)
LocalReturnType = TypeVar("LocalReturnType", covariant=True)
ProtocolSelfType = TypeVar("ProtocolSelfType", contravariant=True)
ProtocolParamType = TypeVar("ProtocolParamType", contravariant=True)
ProtocolReturnType = TypeVar("ProtocolReturnType", covariant=True)


class MethodAsyncNoParam(Protocol[ProtocolSelfType, ProtocolReturnType]):
    """An async method without a parameter."""

    def __call__(self, __self: ProtocolSelfType) -> Awaitable[ProtocolReturnType]: ...


class MethodAsyncSingleParam(Protocol[ProtocolSelfType, ProtocolParamType, ProtocolReturnType]):
    """An async method with one parameter."""

    def __call__(self, __self: ProtocolSelfType, __arg: ProtocolParamType) -> Awaitable[ProtocolReturnType]: ...


class MethodSyncOrAsyncNoParam(Protocol[ProtocolSelfType, ProtocolReturnType]):
    """A method, async or not, without a parameter."""

    def __call__(self, __self: ProtocolSelfType) -> Awaitable[ProtocolReturnType] | ProtocolReturnType: ...


class MethodSyncOrAsyncSingleParam(Protocol[ProtocolSelfType, ProtocolParamType, ProtocolReturnType]):
    """A method, async or not, with one parameter."""

    def __call__(
        self, __self: ProtocolSelfType, __arg: ProtocolParamType
    ) -> Awaitable[ProtocolReturnType] | ProtocolReturnType: ...
