"""At home in Kafka: workflows that records start, signal and update.

:func:`on_record` declares what the records of a topic do, :class:`RecordTriggers` does it; :class:`BackgroundWorker` is
for programs without an event loop. See ``docs/kafka.md``.
"""

from perdure.kafka._background import BackgroundWorker, request_id_of
from perdure.kafka._definition import SKIP, Arguments, Batch, Debounce, Trigger, on_record
from perdure.kafka._record import Record, RecordSource, source_of
from perdure.kafka._triggers import RecordTriggers
from perdure.kafka._values import Avro, Json, Registry, RegistryAvro, RetryRecordError, as_bytes, as_text
from perdure.kafka.core.ordering import Ordering

__all__ = [
    "SKIP",
    "Arguments",
    "Avro",
    "BackgroundWorker",
    "Batch",
    "Debounce",
    "Json",
    "Ordering",
    "Record",
    "RecordSource",
    "RecordTriggers",
    "Registry",
    "RegistryAvro",
    "RetryRecordError",
    "Trigger",
    "as_bytes",
    "as_text",
    "on_record",
    "request_id_of",
    "source_of",
]
