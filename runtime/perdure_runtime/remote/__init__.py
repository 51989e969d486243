"""The log of a dev server in another process: the client's side of its socket, and the protocol both sides speak.

May be imported by the SDK and ops; the embedded log's server imports :mod:`perdure_runtime.remote.protocol` from it.
"""

from perdure_runtime.remote.log import RemoteLog

__all__ = ["RemoteLog"]
