"""The activity, and a source in memory that stands in for a web page."""

from __future__ import annotations

from perdure import activity


class Source:
    """Says what it was told to say; raises while it is down."""

    def __init__(self, value: str) -> None:
        self.value = value
        self.down = False
        self.polls = 0

    def read(self) -> str:
        self.polls += 1
        if self.down:
            raise ConnectionError("no answer")
        return self.value


class Polling:
    """Asks sources by name."""

    def __init__(self, sources: dict[str, Source]) -> None:
        self._sources = sources

    @activity.defn
    async def poll(self, source: str) -> str:
        return self._sources[source].read()
