"""The audit at the end of a test: what the engine left in the log must be sound."""

from __future__ import annotations

from perdure_ops.audit import AUDITED, Audit, Breach
from perdure_ops.audit.reading import TopicScan, settled_breaches
from perdure_runtime.connect import names_of, open_log
from perdure_runtime.log import Log
from perdure_schemas.topics import TopicNames

#: A loaded machine may take its time; an engine that is sound ends the wait at once.
SETTLE_S = 30.0


def breaches_in(log: Log, names: TopicNames, settle_s: float = SETTLE_S) -> list[Breach]:
    """What the audit finds in a namespace whose engine may be working."""
    check = Audit(names)
    scan = TopicScan(log, names, AUDITED)
    try:
        for record in scan.to_end():
            check.take(record)
        if not check.finish():
            return []
        return settled_breaches(check, scan, settle_s)
    finally:
        scan.close()


def assert_sound(log: Log, names: TopicNames) -> None:
    """No breach, or the test fails with all of them."""
    found = breaches_in(log, names)
    assert not found, "the audit found:\n" + "\n".join(map(str, found))


def assert_cluster_sound(address: str, namespace: str) -> None:
    """The same for a cluster at an address."""
    log = open_log(address)
    try:
        assert_sound(log, names_of(log, namespace))
    finally:
        log.close()
