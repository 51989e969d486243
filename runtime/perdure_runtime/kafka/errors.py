"""Turns the client library's errors into those of the ``Log`` port, with what to do about them.

Called by all modules of this package.
"""

from __future__ import annotations

import atexit
import logging
import re
import time
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaError, KafkaException

from perdure_runtime.kafka.options import without_secrets
from perdure_runtime.log import LogError, LogUnavailableError

logger = logging.getLogger("perdure.kafka")
#: For what the client library itself logs.
client_logger = logging.getLogger("perdure.kafka.client")


class ClientNoiseFilter(logging.Filter):
    """Keeps the client library from flooding logs: it logs every failed attempt to connect, of every thread, as errors.

    A time without a broker becomes one warning for each client and minute; what the platform makes of it is logged by
    the platform.

    Args:
        monotonic_s: a clock.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic_s = monotonic_s
        #: Client → when its next message may pass. Clients are few; the bound is for those that come and go.
        self._silent_until_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message is to be logged; it becomes a warning at most."""
        text = record.getMessage()
        if _CHOSEN_ON_PURPOSE in text:
            return False
        found = _CLIENT_NAME.search(text)
        client = found.group(1) if found else ""
        now_s = self._monotonic_s()
        if now_s < self._silent_until_s.get(client, 0.0):
            return False
        if len(self._silent_until_s) >= _NOISY_CLIENTS_MAX:
            self._silent_until_s.clear()
        self._silent_until_s[client] = now_s + NOISE_INTERVAL_S
        if record.levelno > logging.WARNING:
            record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        return True


#: How long a client of the library is silent after it has logged something.
NOISE_INTERVAL_S = 60.0
_NOISY_CLIENTS_MAX = 1_000
#: A warning about a setting that is chosen on purpose, every time a producer is made.
_CHOSEN_ON_PURPOSE = "enable.gapless.guarantee is experimental"
#: "FAIL [perdure#consumer-3] [thrd:…]: …"
_CLIENT_NAME = re.compile(r"\[([^\]\s]+#(?:consumer|producer)-\d+)\]")
client_logger.addFilter(ClientNoiseFilter())


def _say_no_more() -> None:
    """The library's threads outlive the streams that handlers write to."""
    client_logger.disabled = True


atexit.register(_say_no_more)

#: Errors that mean that nobody answered.
_UNAVAILABLE = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._RESOLVE,
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError._WAIT_COORD,
        KafkaError._MSG_TIMED_OUT,
    }
)
_UNAVAILABLE_HINT = (
    "check that the brokers run, that their advertised.listeners can be reached from here, and that security.protocol "
    "and the credentials are right"
)
_ACLS = "perdure topics acls prints all that is needed"
_HINTS: Mapping[int, str] = {
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: f"the user needs an ACL that allows Write on some topic; {_ACLS}",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create it first (perdure topics apply)",
    KafkaError._UNKNOWN_TOPIC: "create it first (perdure topics apply)",
    KafkaError._UNKNOWN_PARTITION: "the topic has fewer partitions than the platform expects (perdure topics describe)",
    KafkaError.INVALID_REPLICATION_FACTOR: "there are fewer brokers than replicas asked for",
    KafkaError.POLICY_VIOLATION: "the cluster's policy does not allow it",
    KafkaError.MSG_SIZE_TOO_LARGE: "max.message.bytes of the topic is too small (perdure topics apply)",
    KafkaError.NOT_ENOUGH_REPLICAS: "too few replicas are in sync (min.insync.replicas)",
}


def kafka_error(exception: BaseException | KafkaError) -> KafkaError | None:
    """The client library's error inside an exception, if there is one."""
    if isinstance(exception, KafkaException) and exception.args and isinstance(exception.args[0], KafkaError):
        return exception.args[0]
    return exception if isinstance(exception, KafkaError) else None


#: Refusals for want of an ACL.
UNAUTHORIZED = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})


def describe(error: KafkaError, need: str = "") -> str:
    """The error's text with a hint on what to do, if one is known.

    Args:
        error: what went wrong.
        need: the operation and resource that an ACL must allow for this, like ``Write on the topic t``.
    """
    hint = _HINTS.get(error.code())
    if error.code() in UNAUTHORIZED:
        hint = f"the user needs an ACL that allows {need or 'this'}; {_ACLS}"
    return f"{error.str()} ({error.name()})" + (f": {hint}" if hint else "")


def describe_need(topic: str) -> str:
    """What an ACL must allow for a look at a topic."""
    return f"Describe on the topic {topic} (Read and Write include it)"


def is_unavailable(error: KafkaError) -> bool:
    """Whether the error says that nobody answered, rather than that something was refused."""
    return error.code() in _UNAVAILABLE


class ErrorTranslator:
    """Makes port errors for one log: names its bootstrap servers, and hides its secrets.

    Remembers the last connection error the clients reported, because a time-out by itself does not say why.
    """

    def __init__(
        self, bootstrap: str, options: Mapping[str, str], monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic_s = monotonic_s
        self._bootstrap = bootstrap
        self._options = options
        self._last_connection_error = ""

    def observe(self, owner: str) -> Callable[[KafkaError], None]:
        """A callback for a client's asynchronous errors: logs the first in a minute, and remembers the last."""
        silent_until_s = 0.0

        def on_error(error: KafkaError) -> None:
            nonlocal silent_until_s
            self._last_connection_error = text = self.clean(error.str())
            now_s = self._monotonic_s()
            if now_s >= silent_until_s:
                silent_until_s = now_s + NOISE_INTERVAL_S
                logger.warning("Kafka %s: %s: %s", self._bootstrap, owner, text)

        return on_error

    def clean(self, text: str) -> str:
        """``text`` without the values of secret options."""
        return without_secrets(text, self._options)

    def translate(self, action: str, exception: BaseException, need: str = "") -> LogError:
        """The port's error for a failed action; ``action`` is like "read the end of t[0]", ``need`` as for
        :func:`describe`."""
        error = kafka_error(exception)
        if error is not None and not is_unavailable(error):
            return LogError(self.clean(f"Kafka {self._bootstrap}: could not {action}: {describe(error, need)}"))
        if error is None and not isinstance(exception, TimeoutError):
            return LogError(self.clean(f"Kafka {self._bootstrap}: could not {action}: {exception}"))
        return self.unavailable(action, error.str() if error is not None else "no answer in time")

    def unavailable(self, action: str, reason: str) -> LogUnavailableError:
        """Nobody answered: what was tried, the reason, and what to check."""
        last = f" (last connection error: {self._last_connection_error})" if self._last_connection_error else ""
        text = f"Kafka at {self._bootstrap} is not available: could not {action}: {reason}{last}; {_UNAVAILABLE_HINT}"
        return LogUnavailableError(self.clean(text))
