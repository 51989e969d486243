"""Makes the wall clock of a test's process wrong by what a file says: put this folder on its ``PYTHONPATH``.

Python imports a module of this name when it starts, before anything else can take a reference to the clock. The file
holds the offset in nanoseconds and may change at any time. Without the variable nothing is touched.
"""

import mmap
import os
import struct
import time

_PATH = os.environ.get("PERDURE_TEST_CLOCK")

if _PATH:
    with open(_PATH, "r+b") as _file:  # noqa: PTH123 (nothing else is imported here)
        _offset = mmap.mmap(_file.fileno(), 8)
    _unpack = struct.Struct("=q").unpack_from
    _real_time_ns, _real_time = time.time_ns, time.time

    def _time_ns() -> int:
        return _real_time_ns() + _unpack(_offset)[0]

    def _time() -> float:
        return _real_time() + _unpack(_offset)[0] / 1e9

    time.time_ns, time.time = _time_ns, _time
