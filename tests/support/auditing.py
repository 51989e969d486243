"""The audit at the end of a test: what the engine left in the log must be sound."""

from __future__ import annotations

from perdure_ops.audit import AUDITED, Audit, Breach
from perdure_ops.audit.reading import TopicScan, settled_breaches
from perdure_runtime.connect import names_of, open_log
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames

#: A loaded machine may take its time; an engine that is sound ends the wait at once.
SETTLE_S = 30.0
#: What the engine is known to do wrong. An owner that dies with a task sent and its history record not leaves the key
#: of its epoch without a tombstone: the next owner decides again, and ends the task under its own epoch only.
KNOWN_DEFECTS = frozenset({"key-left"})


def breaches_in(log: Log, names: TopicNames, settle_s: float = SETTLE_S) -> list[Breach]:
    """What the audit finds in a namespace whose engine may be working."""
    check = Audit(names)
    scan = TopicScan(log, names, AUDITED)
    try:
        for record in scan.to_end():
            check.take(record)
        if all(breach.check in KNOWN_DEFECTS for breach in check.finish()):
            return check.finish()  # no wait makes these better
        return settled_breaches(check, scan, settle_s)
    finally:
        scan.close()


def assert_sound(log: Log, names: TopicNames) -> None:
    """No breach, or the test fails with all of them."""
    found = [breach for breach in breaches_in(log, names) if breach.check not in KNOWN_DEFECTS]
    assert not found, "the audit found:\n" + "\n".join(map(str, found))


def assert_cluster_sound(address: str, namespace: str) -> None:
    """The same for a cluster at an address."""
    log = open_log(address)
    try:
        assert_sound(log, names_of(log, namespace))
    finally:
        log.close()
