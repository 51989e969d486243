"""What ``perdure reassign plan|execute|verify`` does. Called by its commands.

Kafka's client library cannot ask for a reassignment, so ``execute`` drives Kafka's own
``kafka-reassign-partitions.sh``; planning and verifying need nothing but the brokers' metadata.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from perdure_ops import reassignment
from perdure_ops.addresses import check_kafka_address
from perdure_ops.errors import CliError, one_line
from perdure_ops.opening import opened
from perdure_ops.output import OutputFormat, print_rows
from perdure_ops.reassignment import Replicas
from perdure_runtime.kafka import KafkaLog
from perdure_runtime.topics_plan import declared_topics
from perdure_schemas.topics import TopicNames

__all__ = ["TOOL", "execute", "plan", "verify"]

#: Kafka's own tool, and the variable that says where it is.
TOOL = "kafka-reassign-partitions.sh"
TOOL_VARIABLE = "PERDURE_KAFKA_REASSIGN_TOOL"
EXIT_MOVING = 1
COLUMNS = ("topic", "partition", "replicas", "wanted", "in_sync", "leader", "state")


def plan(
    address: str,
    namespace: str,
    brokers: Sequence[int],
    replication: int | None,
    file: Path | None,
    output: OutputFormat,
) -> None:
    """Print a plan for the topics of a namespace, and write it to a file if one is named.

    Raises:
        CliError: there are too few brokers, or the file cannot be written.
    """
    with _cluster(address, namespace) as (log, names):
        known = log.brokers()
        unknown = sorted(set(brokers) - set(known))
        if unknown:
            raise CliError(
                f"--brokers: there is no broker {', '.join(map(str, unknown))}; there are {', '.join(map(str, known))}"
            )
        current = _current(log, _topics(log, names))
    wanted = reassignment.plan(current, brokers or known, replication)
    moves = {place: wanted[place] for place in reassignment.differences(current, wanted)}
    if file is not None and moves:
        file.write_text(reassignment.to_json_text(moves) + "\n")
    if output is OutputFormat.JSON:
        # The form that Kafka's tool takes.
        print(reassignment.to_json_text(moves))
        return
    rows = [
        {"topic": place.topic, "partition": place.partition, "replicas": current[place], "wanted": replicas}
        for place, replicas in sorted(moves.items())
    ]
    if not rows and output is OutputFormat.TABLE:
        print(f"nothing to do: the replicas of namespace {namespace} are where they should be")
        return
    print_rows(rows, output, COLUMNS[:4])
    if file is not None:
        print(f"written to {file}; carry it out with `perdure reassign execute {file}`", file=sys.stderr)


def execute(
    address: str,
    file: Path,
    tool: str | None,
    throttle_bytes_per_s: int | None,
    *,
    dry_run: bool,
    assume_yes: bool,
    output: OutputFormat,
) -> None:
    """Have Kafka's own tool carry a plan out. What is where it should be is left out, so it may be repeated.

    Raises:
        CliError: the plan cannot be read, there is no tool, or the tool failed.
    """
    wanted = reassignment.parse(_text_of(file), str(file))
    with _log(address) as log:
        current = _current(log, sorted({place.topic for place in wanted}))
        bootstrap = log.bootstrap
    missing = [place for place in wanted if place not in current]
    if missing:
        raise CliError(f"{file}: there is no partition {missing[0].partition} of topic {missing[0].topic!r}")
    moves = {place: wanted[place] for place in reassignment.differences(current, wanted)}
    print_rows(
        [
            {"topic": p.topic, "partition": p.partition, "replicas": current[p], "wanted": moves[p]}
            for p in sorted(moves)
        ],
        output,
        COLUMNS[:4],
    )
    if not moves or dry_run:
        _say(f"{len(moves)} partitions would be moved" if dry_run else "nothing to move", output)
        return
    command = _tool(tool)
    if not assume_yes and not typer.confirm(f"Move {len(moves)} partitions?", err=True):
        raise CliError("nothing was moved")
    arguments = [] if throttle_bytes_per_s is None else ["--throttle", str(throttle_bytes_per_s)]
    with tempfile.TemporaryDirectory(prefix="perdure-reassign-") as folder:
        plan_file = Path(folder) / "plan.json"
        plan_file.write_text(reassignment.to_json_text(moves))
        options = _tool_options()
        run_tool([*command, "--bootstrap-server", bootstrap, *options,
                  "--reassignment-json-file", str(plan_file), "--execute", *arguments])  # fmt: skip
    _say(f"{len(moves)} partitions are being moved; see `perdure reassign verify {file}`", output)


def run_tool(command: Sequence[str]) -> None:
    """Run Kafka's tool to its end.

    Raises:
        CliError: it failed; the message says what it said last.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the user's own tool
    except OSError as error:
        raise CliError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode != 0 or "Successfully started" not in done.stdout:
        said = one_line((done.stderr or done.stdout).strip()[-500:])
        raise CliError(f"{TOOL} did not begin to move: {said}")


def verify(address: str, file: Path, output: OutputFormat) -> None:
    """Print how far a plan is.

    Raises:
        typer.Exit: it is not carried out yet (exit code 1).
        CliError: the plan cannot be read.
    """
    wanted = reassignment.parse(_text_of(file), str(file))
    rows = []
    with _log(address) as log:
        placements = log.placements(sorted({place.topic for place in wanted}))
    for place, replicas in sorted(wanted.items()):
        found = placements.get(place)
        there = found is not None and set(found.replicas) == set(replicas)
        caught_up = found is not None and set(replicas) <= set(found.in_sync)
        state = "missing" if found is None else "done" if there and caught_up else "moving" if there else "not begun"
        if found is not None and not there and set(replicas) < set(found.replicas):
            state = "moving"
        rows.append(
            {
                "topic": place.topic,
                "partition": place.partition,
                "replicas": [] if found is None else list(found.replicas),
                "wanted": replicas,
                "in_sync": [] if found is None else list(found.in_sync),
                "leader": None if found is None else found.leader,
                "state": state,
            }
        )
    print_rows(rows, output, COLUMNS)
    left = sum(row["state"] != "done" for row in rows)
    _say(f"{left} of {len(rows)} partitions are not where they should be" if left else "done", output)
    if left:
        raise typer.Exit(EXIT_MOVING)


def _say(text: str, output: OutputFormat) -> None:
    typer.echo(text, err=output is not OutputFormat.TABLE)


def _tool(given: str | None) -> list[str]:
    """How Kafka's tool is called.

    Raises:
        CliError: it is nowhere.
    """
    text = given or os.environ.get(TOOL_VARIABLE) or TOOL
    words = json.loads(text) if text.startswith("[") else [text]
    if shutil.which(words[0]) is None:
        raise CliError(
            f"{words[0]} is not here: Kafka's client library cannot move partitions, so this needs Kafka's own {TOOL};"
            " say where it is with --tool, or give it the plan yourself with --reassignment-json-file"
        )
    return [str(word) for word in words]


def _tool_options() -> list[str]:
    """Kafka's tool has a client of its own: its options come from a file that the user names for it."""
    properties = os.environ.get("PERDURE_KAFKA_ADMIN_PROPERTIES")
    return [] if not properties else ["--command-config", properties]


def _text_of(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _topics(log: KafkaLog, names: TopicNames) -> list[str]:
    return list(log.describe_topics(list(declared_topics(names))))


def _current(log: KafkaLog, topics: Sequence[str]) -> Replicas:
    return {place: list(found.replicas) for place, found in log.placements(topics).items()}


@contextmanager
def _cluster(address: str, namespace: str) -> Iterator[tuple[KafkaLog, TopicNames]]:
    check_kafka_address(address)
    with opened(address, namespace) as (log, names):
        assert isinstance(log, KafkaLog)
        yield log, names


@contextmanager
def _log(address: str) -> Iterator[KafkaLog]:
    from perdure_runtime.connect import open_log

    check_kafka_address(address)
    log = open_log(address)
    assert isinstance(log, KafkaLog)
    try:
        yield log
    finally:
        log.close()
