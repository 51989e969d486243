"""Plugins of clients: bundles of a converter and interceptors that a client is made with.

Names are those of ``temporalio.client``. Invariant: plugins see the configuration in the order they are given, each
what the one before it returned. Called by the client when it is made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from perdure.client._interceptor import Interceptor
    from perdure.common import QueryRejectCondition
    from perdure.converter import DataConverter


class ClientConfig(TypedDict, total=False):
    """What a client is made with; see :meth:`perdure.client.Client.connect`."""

    namespace: str
    identity: str
    data_converter: DataConverter
    plugins: Sequence[Any]
    interceptors: Sequence[Interceptor]
    default_workflow_query_reject_condition: QueryRejectCondition | None


class Plugin(ABC):
    """A plugin of clients. One that is also a :class:`perdure.worker.Plugin` goes to the client's workers by itself."""

    def name(self) -> str:
        """Its name, for messages."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    @abstractmethod
    def configure_client(self, config: ClientConfig) -> ClientConfig:
        """Called once, when a client is made: change what it is made with.

        Args:
            config: The configuration.

        Returns:
            The configuration to go on with.
        """


def configured(config: ClientConfig) -> ClientConfig:
    """A client's configuration after its plugins saw it.

    Raises:
        TypeError: one is no plugin.
    """
    for plugin in config["plugins"]:
        if not isinstance(plugin, Plugin):
            raise TypeError(
                f"a plugin of type {type(plugin).__name__} is no perdure.client.Plugin: make its class from that one"
            )
        config = plugin.configure_client(config)
    return config
