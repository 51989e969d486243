"""``python -m examples.java_worker``: builds the worker on the first call, and runs it until it is interrupted."""

from __future__ import annotations

import argparse
import os
import sys

from examples.java_worker.build import JavaUnavailableError, command


def main() -> int:
    """Become the worker's process; returns only if it cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m examples.java_worker", description="an activity worker in Java")
    parser.add_argument("bootstrap", help="brokers, as HOST:PORT,HOST:PORT")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--task-queue", default="java")
    options = parser.parse_args()
    try:
        arguments = command(options.bootstrap, options.namespace, options.task_queue)
    except JavaUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    return os.execv(arguments[0], arguments)


if __name__ == "__main__":
    raise SystemExit(main())
