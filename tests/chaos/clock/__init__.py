"""The wall clock of a child process, which a test can set wrong while it runs. See ``sitecustomize.py`` beside this."""

from __future__ import annotations

import os
import struct
from pathlib import Path

_FOLDER = Path(__file__).parent


class ProcessClock:
    """The offset of one process's wall clock.

    Parameters:
        path: the file that the process looks into.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(bytes(8))

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the process has to be started with."""
        path = os.pathsep.join([str(_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {"PYTHONPATH": path, "PERDURE_TEST_CLOCK": str(self._path)}

    def set(self, offset_s: float) -> None:
        """Let the process's clock be wrong by so many seconds from now on."""
        with self._path.open("r+b") as file:
            file.write(struct.pack("=q", int(offset_s * 1e9)))
