"""Conversion of values to payloads and of errors to failures, with the names of the ``temporalio`` package."""

from perdure.converter._codec import PayloadCodec
from perdure.converter._data import DataConverter
from perdure.converter._failure import (
    DefaultFailureConverter,
    DefaultFailureConverterWithEncodedAttributes,
    FailureConverter,
)
from perdure.converter._payload import (
    AdvancedJSONEncoder,
    BinaryNullPayloadConverter,
    BinaryPlainPayloadConverter,
    CompositePayloadConverter,
    DefaultPayloadConverter,
    EncodingPayloadConverter,
    JSONPlainPayloadConverter,
    PayloadConverter,
)
from perdure.converter._storage import (
    ExternalStorage,
    FolderStorageDriver,
    PayloadNotStoredError,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverSelectContext,
    StorageDriverStoreContext,
)
from perdure.converter._types import JSONTypeConverter, JSONTypeConverterUnhandled, value_to_type
from perdure_schemas.records import Payload

__all__ = [
    "AdvancedJSONEncoder",
    "BinaryNullPayloadConverter",
    "BinaryPlainPayloadConverter",
    "CompositePayloadConverter",
    "DataConverter",
    "DefaultFailureConverter",
    "DefaultFailureConverterWithEncodedAttributes",
    "DefaultPayloadConverter",
    "EncodingPayloadConverter",
    "ExternalStorage",
    "FailureConverter",
    "FolderStorageDriver",
    "JSONPlainPayloadConverter",
    "JSONTypeConverter",
    "JSONTypeConverterUnhandled",
    "Payload",
    "PayloadCodec",
    "PayloadConverter",
    "PayloadNotStoredError",
    "StorageDriver",
    "StorageDriverClaim",
    "StorageDriverRetrieveContext",
    "StorageDriverSelectContext",
    "StorageDriverStoreContext",
    "value_to_type",
]
