"""The ACLs of each kind of process, as commands and as JSON."""

from __future__ import annotations

import itertools
import json
import shlex

import pytest

from perdure_ops import cli
from perdure_ops.acls import Principal, as_commands, as_rows, needed_acls, parse_principals
from perdure_ops.errors import CliError
from perdure_schemas.topics import TOPICS, TopicNames

NAMES = TopicNames(namespace="prod")
USERS = parse_principals(["engine=User:CN=engine,O=shop"])


def covers(operation: str, topic: str, kind: Principal) -> bool:
    return any(
        acl.operation == operation
        and acl.resource_type == "topic"
        and (topic == acl.name if acl.pattern_type == "literal" else topic.startswith(acl.name))
        for acl in needed_acls(NAMES, kind)
    )


@pytest.mark.parametrize("kind", [Principal.WORKER, Principal.CLIENT])
def test_users_of_the_platform_may_write_and_read_what_the_topics_declare_and_nothing_else(kind: Principal) -> None:
    for spec in TOPICS:
        topic = NAMES.of(spec)
        assert covers("Write", topic, kind) == (kind in spec.producers), topic
    assert covers("Read", NAMES.replies, kind)
    assert not any(covers("Read", topic, kind) for topic in (NAMES.commands, NAMES.history, NAMES.tasks, NAMES.timers))
    assert covers("Read", NAMES.work("a queue"), kind) == (kind is Principal.WORKER)
    assert not covers("Write", NAMES.work("a queue"), kind)


def test_nobody_needs_anything_outside_of_the_namespace() -> None:
    for kind in Principal:
        for acl in needed_acls(NAMES, kind):
            assert acl.name.startswith("perdure.prod.") or acl[:3] == ("Describe", "group", "literal")
            assert acl.resource_type in ("topic", "group", "transactional-id")


def test_commands_and_rows_say_the_same() -> None:
    said = set()
    for line in as_commands(NAMES, USERS, list(Principal)):
        if line.startswith("#"):
            continue
        words = shlex.split(line)
        values = dict(itertools.pairwise(words))
        [kind] = [kind for kind in ("topic", "group", "transactional-id") if f"--{kind}" in values]
        for word, operation in itertools.pairwise(words):
            if word == "--operation":
                pattern = values["--resource-pattern-type"]
                said.add((values["--allow-principal"], operation, kind, pattern, values[f"--{kind}"]))
    rows = as_rows(NAMES, USERS, list(Principal))
    keys = ("principal", "operation", "resource_type", "pattern_type", "name")
    assert said == {tuple(row[key] for key in keys) for row in rows}
    assert len(said) == len(rows)
    assert {row["principal"] for row in rows if row["process"] == "engine"} == {"User:CN=engine,O=shop"}


@pytest.mark.parametrize("assignment", ["engine", "engine=shop", "=User:x", "broker=User:x"])
def test_a_principal_that_cannot_be_read(assignment: str) -> None:
    with pytest.raises(CliError, match="KIND=User:NAME"):
        parse_principals([assignment])


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(["topics", "acls", *arguments])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_the_command_needs_no_broker(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "worker", "client", "-n", "prod", "-o", "json")
    assert code == 0
    assert json.loads(out) == as_rows(NAMES, parse_principals([]), [Principal.WORKER, Principal.CLIENT])
    code, out, _ = run(capsys)
    assert out.count("\n# ") == len(Principal) - 1
    assert "--topic perdure.default. --resource-pattern-type prefixed" in out


def test_an_unknown_kind_of_process(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "broker")
    assert code == 1
    assert "engine, worker, client, operator" in err
