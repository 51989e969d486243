"""The record types, as immutable structs. They are the single source: the ``.avsc`` files are generated from them.

A new field needs a default, and a new member of a union goes to the end, so that every reader reads what an earlier
version wrote. Times are integer milliseconds since the Unix epoch (UTC), durations integer milliseconds.
"""

from perdure_schemas.records.commands import *  # noqa: F403
from perdure_schemas.records.common import *  # noqa: F403
from perdure_schemas.records.deployments import *  # noqa: F403
from perdure_schemas.records.dispatch import *  # noqa: F403
from perdure_schemas.records.events import *  # noqa: F403
from perdure_schemas.records.operator_commands import *  # noqa: F403
from perdure_schemas.records.reads import *  # noqa: F403
from perdure_schemas.records.record_events import *  # noqa: F403
from perdure_schemas.records.replies import *  # noqa: F403
from perdure_schemas.records.schedules import *  # noqa: F403
from perdure_schemas.records.workflow_commands import *  # noqa: F403
