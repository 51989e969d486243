"""Folds an index in a process of its own: ``python -m tests.integration.readside.follower ADDRESS NAMESPACE FILE``.

Prints a line before and behind each transaction, so that a test can kill it in between.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path

from perdure_readside.folding import Folder
from perdure_readside.index import Change, ExecutionIndex
from perdure_runtime.clock import wall_clock_ms
from perdure_runtime.connect import names_of, open_log

PAUSE_S = 0.02


class Telling(ExecutionIndex):
    """An index that says what it does."""

    def apply(self, changes: Iterable[Change]) -> None:
        """Take in batches."""

        def begun() -> Iterable[Change]:
            print("begun", flush=True)
            yield from changes

        super().apply(begun())
        print("done", flush=True)


def main() -> None:
    """Follow until somebody kills it."""
    address, namespace, file = sys.argv[1:]
    log = open_log(address)
    names = names_of(log, namespace)
    folder = Folder(log, names.executions, names.partitions, Telling(Path(file), names.executions), wall_clock_ms)
    while True:
        folder.fold_some()
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
