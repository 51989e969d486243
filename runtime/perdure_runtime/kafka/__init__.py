"""The ``Log`` port on Apache Kafka, with confluent-kafka's synchronous clients.

:class:`KafkaLog` is what the rest of the platform needs; :func:`options_from_environment` gives it the connection
options that users keep in environment variables. Called by :mod:`perdure_runtime.connect`.
"""

from perdure_runtime.kafka.log import KafkaLog
from perdure_runtime.kafka.options import options_from_environment

__all__ = ["KafkaLog", "options_from_environment"]
