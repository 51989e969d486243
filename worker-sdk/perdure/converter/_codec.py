"""What a payload codec is, and how an error of one is recorded.

Invariant: what is recorded of a codec's error never holds a value of the user. Called by the data converter and the
worker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from perdure_schemas.records import Failure, FailureKind, Payload

#: The type of the failure that stands for an error of a codec.
PAYLOAD_CODEC_ERROR = "PayloadCodecError"


class PayloadCodec(ABC):
    """Turns payloads into other payloads and back: encryption, compression.

    It runs outside of workflow code and may wait. Unlike a payload converter it need not be deterministic.
    """

    @abstractmethod
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encode payloads; as many come out as went in."""

    @abstractmethod
    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Undo :meth:`encode`. Payloads this codec did not make must pass through unless they are refused."""


def codec_failure(error: BaseException) -> Failure:
    """The failure for an error of a codec, which cannot go through that codec: its type and text and nothing else.

    Args:
        error: What the codec raised.
    """
    return Failure(
        kind=FailureKind.APPLICATION,
        message=f"the payload codec failed: {type(error).__name__}: {error}",
        source="perdure",
        type=PAYLOAD_CODEC_ERROR,
    )
