"""A producer that outlives its own failures, for those who repeat what was not acknowledged.

The log's producers end at the first record they cannot write, and take nothing more. Clients and workers send commands
that are idempotent by their ids (I3) and repeat them themselves, so they may simply go on with a new producer.
Invariant: what was not acknowledged is reported as failed; nothing is repeated here but the call that was refused. Made
by :class:`perdure._connection.Connection` and by the worker.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from perdure_runtime.log import Ack, Log, LogError, NewRecord, Producer, ProducerFencedError

_logger = logging.getLogger("perdure.client")


class SteadyProducer:
    """See the module; implements :class:`perdure_runtime.log.Producer`.

    Args:
        log: Makes producers.
        name: For logs and metrics.
    """

    def __init__(self, log: Log, name: str) -> None:
        self._log = log
        self._name = name
        self._lock = threading.Lock()
        self._closed = False
        self._current: Producer = log.producer(name)

    def append(self, records: Sequence[NewRecord]) -> Ack:
        """Append records, with a new producer if the current one has ended.

        Raises:
            LogError: a record is too large, or there is no other producer to be had.
        """
        producer = self._current
        try:
            return producer.append(records)
        except ProducerFencedError as error:
            return self._replace(producer, error).append(records)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was appended is decided; true if it is."""
        return self._current.flush(timeout_s)

    def close(self) -> None:
        """Flush for a short time and let go of all resources."""
        with self._lock:
            self._closed = True
            producer = self._current
        producer.close()

    def _replace(self, ended: Producer, error: ProducerFencedError) -> Producer:
        with self._lock:
            if self._closed:
                raise LogError(f"the producer {self._name} is closed") from error
            if self._current is ended:
                _logger.warning("event=producer_replaced producer=%s reason=%r", self._name, str(error))
                self._current = self._log.producer(self._name)
                # Closing waits for the producer's own thread, which may be the one that is here.
                threading.Thread(target=ended.close, name=f"perdure-close-{self._name}", daemon=True).start()
            return self._current
