"""What travels on the log: every topic declared once, every record type, and their Avro encoding.

Other packages import :mod:`perdure_schemas.records` for the types, :mod:`perdure_schemas.topics` for names and
configuration, :mod:`perdure_schemas.keys` for key formats and :mod:`perdure_schemas.codec` for bytes. Records and keys
are plain data, so the pure cores may import them; only the codec touches Avro.
"""
