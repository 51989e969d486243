"""Which records a deposed owner wrote too late: the reader's half of "one order" (I1).

An owner writes a mark into every partition it will write to, and its epoch into the key of every fenced record. A
reader that meets a record of an older epoch *behind* a newer mark treats it as if it did not stand there. Invariants:
the newest epoch of a source never goes down, so a mark that a deposed owner writes late changes nothing; a source
without a mark is not fenced; the answer depends only on the marks that stand before the record in its own partition,
so all readers of a partition agree. Called by every handler that reads fenced records; kept in its checkpoint, since
the marks may stand below the offset where folding resumes.
"""

from __future__ import annotations

import msgspec

__all__ = ["Fence"]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, int])


class Fence:
    """The newest owner mark of each source, as seen in one partition."""

    __slots__ = ("_newest",)

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}

    def mark(self, source: str, epoch: int) -> bool:
        """Note an owner mark.

        Parameters:
            source: who took over, for example ``"history/3"``.
            epoch: the offset of that owner's mark in its own topic.

        Returns:
            Whether the mark is newer than all seen of that source.
        """
        if epoch <= self._newest.get(source, -1):
            return False
        self._newest[source] = epoch
        return True

    def admits(self, source: str, epoch: int) -> bool:
        """Whether a record (value or tombstone) that ``source`` wrote with ``epoch`` is valid where it stands."""
        return epoch >= self._newest.get(source, -1)

    def newest(self, source: str) -> int:
        """The newest epoch of ``source``; -1 without a mark."""
        return self._newest.get(source, -1)

    def encode(self) -> bytes:
        """Bytes for a checkpoint."""
        return _encoder.encode(self._newest)

    @classmethod
    def decode(cls, data: bytes | None) -> Fence:
        """The fence of a checkpoint; an empty one for ``None``.

        Raises:
            msgspec.DecodeError: the bytes were not made by :meth:`encode`.
        """
        fence = cls()
        if data is not None:
            fence._newest = _decoder.decode(data)
        return fence
