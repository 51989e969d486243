"""The table of public names in ``docs/names.md``, made from the code, so that it cannot lie.

``python -m tests.support.names_table`` writes it; a test fails when it is out of date, and when a missing name has no reason.
The list of names that users know is in ``tests/unit/sdk/known_names.json``.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
KNOWN = ROOT / "tests" / "unit" / "sdk" / "known_names.json"
TABLE = ROOT / "docs" / "names.md"

#: Why a name is not there, by the first pattern that matches it.
REASONS: tuple[tuple[str, str], ...] = (
    (
        r"^(ActivityCancellationDetails|DataConverter)$",
        "imported from where it is defined: `perdure.activity`, `perdure.converter`",
    ),
    (r"[Nn]exus", "calls across namespaces (Nexus) are not there yet"),
    (r"OneTimeVersioning", "overrides that last for one workflow task are not there yet"),
    (r"InvalidVersioningOverride", "an override is not refused: the run waits for workers of that version"),
    (
        r"VersioningIntent|BuildId|build_id|Reachability|reachability",
        "sets of build ids are not there: versions of workers belong to deployments",
    ),
    (
        r"^Activity(Execution|Handle|Failure|ID|AlreadyStarted|Options)|^(Start|Cancel|Terminate|Describe|Pause|Unpause|UpdateActivityOptions)\w*Activit\w*Input|^(List|Count)ActivitiesInput|UpdateActivityOptions|PendingActivityState|Client\.(start_activity|execute_activity|list_activities|count_activities|get_activity_handle)",
        "activities without a workflow are not there yet",
    ),
    (
        r"SerializationContext|with_context|StorageDriver\w*(Context|Info)|StorageWarning|transfer_type|TransferType",
        "converters and storage drivers get no context yet",
    ),
    (r"Proto", "protobuf payloads are not there yet; use JSON, bytes or a converter of your own"),
    (
        r"Slot|PollerBehavior|SharedHeartbeat",
        "slots are fixed or resource-based; workers do not poll, so there are no pollers to tune",
    ),
    (
        r"WorkflowRunner|WorkflowInstance|[Ss]andbox|^unsafe",
        "there is one runner, which guards determinism itself; no import sandbox",
    ),
    (
        r"TLS|KeepAlive|Grpc|HttpConnectProxy|DnsLoad|RetryConfig|ServiceClient|ConnectConfig|service_client|_service$|rpc_metadata|api_key|CloudOperations|ClientConfig|ClientConnect|Client\.config",
        "there is no gRPC: options of the Kafka client go into the address or KAFKA_* variables",
    ),
    (r"HeaderCodec", "headers are not encoded"),
    (r"PayloadLimits|create_payload_validation", "limits are the platform's"),
    (
        r"search_attribute|SearchAttributeValueType",
        "search attributes are encoded by the platform; use the typed classes",
    ),
    (r"EventGroup|event_group", "event groups are not there yet"),
    (r"signal_with_start_workflow", "signal-with-start from workflow code is not there yet"),
    (
        r"TimeSkipp|^WorkflowEnvironment",
        "time skipping is part of the environment; see WorkflowEnvironment.start_time_skipping",
    ),
    (r"AsyncIterator|Aggregation|Count$", "lists are plain async iterators; counting by group is not there yet"),
    (r"Callback", "completion callbacks are not there yet"),
    (r"random_seed", "callbacks on a new random seed are not there: a run keeps its seed"),
    (
        r"PatchActivation",
        "there is no callback on the activation of a patch",
    ),
)


def is_there(module: str, name: str) -> bool:
    """Whether ``perdure.<module>`` has the name (``Class.method`` for methods)."""
    found: object = importlib.import_module(f"perdure.{module}")
    for part in name.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


def reason_for(name: str) -> str | None:
    """Why a name is not there; ``None`` if nobody has said."""
    for pattern, reason in REASONS:
        if re.search(pattern, name):
            return reason
    return None


def rows() -> dict[str, tuple[list[str], list[str]]]:
    """For each module the names that are there and those that are not."""
    known: dict[str, list[str]] = json.loads(KNOWN.read_text())
    return {
        module: (
            [name for name in names if is_there(module, name)],
            [name for name in names if not is_there(module, name)],
        )
        for module, names in known.items()
    }


def render() -> str:
    """The whole document."""
    lines = [
        "# Public names",
        "",
        "Which names of the `temporalio` package are there after changing the import. Made from the code by",
        "`python -m tests.support.names_table`; a test compares.",
    ]
    for module, (present, missing) in rows().items():
        lines += ["", f"## `perdure.{module}`", "", f"{len(present)} of {len(present) + len(missing)} names.", ""]
        lines += ["| name | |", "|---|---|"]
        lines += [f"| `{name}` | yes |" for name in present]
        lines += [f"| `{name}` | not yet: {reason_for(name)} |" for name in missing]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(render())
