"""Operating the platform: the ``perdure`` command, the development server, the engine's processes, their health page.

Imports every other package; nothing imports it. Invariant: importing this package or ``perdure_ops.cli`` loads neither
Kafka, RocksDB, Avro nor an HTTP server, so that ``perdure --help`` is quick; commands load what they need as they run.
"""
