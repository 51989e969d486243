"""Programs that the tests start as processes of their own, to kill them: ``python child.py <what> <arguments>``.

``append <path> <begin> <partitions>``: appends records numbered from ``begin`` on, spread over the partitions, and
prints the number of each as it is acknowledged. ``serve <path> <port>``: serves a log, prints the port, and obeys lines
on its input: ``stall`` stops all writing to the disk (what is appended then stays visible, but is never safe),
``append <value>`` appends to ``t/0``. ``open <path>``: opens a log and prints the error, if any.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import LogError, NewRecord
from perdure_schemas.topics import COMMANDS


def append(path: Path, begin: int, partitions: int) -> None:
    log = EmbeddedLog(path)
    log.create_topics({"t": COMMANDS, "u": COMMANDS}, partitions)
    producer = log.producer("child")
    output = sys.stdout.buffer
    in_flight = threading.Semaphore(64)
    lock = threading.Lock()

    def acknowledged(number: int) -> None:
        with lock:
            output.write(b"%d\n" % number)
            output.flush()
        in_flight.release()

    number = begin
    while True:
        in_flight.acquire()
        topic = "t" if number % 2 else "u"
        record = NewRecord(topic, number % partitions, b"k", b"%d" % number)
        producer.append([record]).on_done(lambda _, n=number: acknowledged(n))
        number += 1


def serve(path: Path, port: int) -> None:
    log = EmbeddedLog(path)
    log.create_topics({"t": COMMANDS}, 1)
    print(log.serve("127.0.0.1", port).port, flush=True)
    producer = log.producer("child")
    for line in sys.stdin:
        order, _, argument = line.strip().partition(" ")
        if order == "stall":
            log._core.storage.write = lambda *_: threading.Event().wait()  # type: ignore[method-assign]
        elif order == "append":
            producer.append([NewRecord("t", 0, b"k", argument.encode())])
        print("ok", flush=True)
    log.close()


def open_only(path: Path) -> None:
    try:
        EmbeddedLog(path).close()
    except LogError as error:
        print(error)


if __name__ == "__main__":
    what, folder, *numbers = sys.argv[1:]
    {"append": append, "serve": serve, "open": open_only}[what](Path(folder), *map(int, numbers))
