"""The data converter: payload converter, failure converter and codec together, as a client or a worker is given them.

Called by the client and the worker. Workflow code converts with the payload converter alone; the codec is applied where
payloads cross the boundary of the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from perdure.converter._codec import PayloadCodec
from perdure.converter._failure import DefaultFailureConverter, FailureConverter
from perdure.converter._payload import DefaultPayloadConverter, PayloadConverter
from perdure.converter._storage import ExternalStorage, StoringCodec
from perdure.converter._walk import map_payloads
from perdure_schemas.records import Failure, Payload


@dataclass(frozen=True)
class DataConverter:
    """How values become payloads, how errors become failures, and what happens to payloads on their way out.

    Attributes:
        payload_converter_class: Class of the payload converter.
        payload_codec: Applied to payloads that leave the process; none if not set.
        failure_converter_class: Class of the failure converter.
        external_storage: Where payloads go that are too large for the log; nowhere if not set.
        payload_converter: The instance, made from the class.
        failure_converter: The instance, made from the class.
        wire_codec: What payloads go through at the boundary of the process: the codec, then the storage. ``None`` if
            there is neither.
    """

    payload_converter_class: type[PayloadConverter] = DefaultPayloadConverter
    payload_codec: PayloadCodec | None = None
    failure_converter_class: type[FailureConverter] = DefaultFailureConverter
    external_storage: ExternalStorage | None = None
    payload_converter: PayloadConverter = field(init=False)
    failure_converter: FailureConverter = field(init=False)
    wire_codec: PayloadCodec | None = field(init=False, repr=False, compare=False)

    #: What is used when none is given.
    default: ClassVar[DataConverter]

    def __post_init__(self) -> None:
        """Make the instances."""
        object.__setattr__(self, "payload_converter", self.payload_converter_class())
        object.__setattr__(self, "failure_converter", self.failure_converter_class())
        codec = self.payload_codec
        if self.external_storage is not None:
            codec = StoringCodec(self.external_storage, codec)
        object.__setattr__(self, "wire_codec", codec)

    async def encode(self, values: Sequence[Any]) -> list[Payload]:
        """Values to payloads, through converter and codec."""
        payloads = self.payload_converter.to_payloads(values)
        return payloads if self.wire_codec is None or not payloads else await self.wire_codec.encode(payloads)

    async def decode(self, payloads: Sequence[Payload], type_hints: list[Any] | None = None) -> list[Any]:
        """Payloads to values, through codec and converter."""
        if self.wire_codec is not None and payloads:
            payloads = await self.wire_codec.decode(payloads)
        return self.payload_converter.from_payloads(payloads, type_hints)

    async def encode_failure(self, exception: BaseException) -> Failure:
        """An exception to a failure whose payloads went through the codec."""
        failure = self.failure_converter.to_failure(exception, self.payload_converter)
        return failure if self.wire_codec is None else await map_payloads(failure, self.wire_codec.encode)

    async def decode_failure(self, failure: Failure) -> BaseException:
        """The exception a failure stands for, its payloads taken through the codec."""
        if self.wire_codec is not None:
            failure = await map_payloads(failure, self.wire_codec.decode)
        return self.failure_converter.from_failure(failure, self.payload_converter)


DataConverter.default = DataConverter()
