"""The embedded log: the port :mod:`perdure_runtime.log` in one process, for the dev server and for tests.

May be imported by ops and by tests; the SDK reaches it only through the socket (:mod:`perdure_runtime.remote`).
"""

from perdure_runtime.embedded.cleaner import CleanerOptions
from perdure_runtime.embedded.log import EmbeddedLog

__all__ = ["CleanerOptions", "EmbeddedLog"]
