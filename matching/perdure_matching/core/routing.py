"""Which version of workers a task is for: the routing of deployments, and the versions that serve each task queue.

Every version of a task queue has a :class:`TaskQueue` of its own, so placing knows nothing of versions but which one to
ask for; for a task queue without versions there is just the one, under its plain name. Invariants: a task that names a
version goes to no other (an activity does where that version does not serve its task queue); what chooses between the
current and the ramping version is a function of the workflow id, so all tasks of a workflow agree, and a larger
percentage only adds workflows to the ramping one. Called by the other modules of this core.
"""

from __future__ import annotations

from perdure_matching.core.model import Phase, Register, Route, TaskState
from perdure_matching.core.placing import detach, place
from perdure_matching.core.state import MatchingState
from perdure_schemas.keys import version_name
from perdure_schemas.records import DeploymentRouting, DeploymentVersionSeen

__all__ = ["forget_version", "note_version", "register", "routing_known", "take_routing"]


def take_routing(state: MatchingState, routing: DeploymentRouting, revision: int, now_ms: int) -> None:
    """A deployment routes new work otherwise; an older revision than the known one changes nothing."""
    known = state.routings.get(routing.deployment_name)
    if known is not None and known[0] >= revision:
        return
    state.routings[routing.deployment_name] = (revision, routing)
    _route_again(state, now_ms)


def note_version(state: MatchingState, version: str, task_queue: str, now_ms: int) -> None:
    """A version serves a task queue."""
    versions = state.versions.setdefault(task_queue, set())
    if version not in versions:
        versions.add(version)
        _route_again(state, now_ms)


def forget_version(state: MatchingState, version: str, task_queue: str, now_ms: int) -> None:
    """A version was deleted."""
    versions = state.versions.get(task_queue)
    if versions is not None and version in versions:
        versions.discard(version)
        if not versions:
            del state.versions[task_queue]
        _route_again(state, now_ms)


def register(state: MatchingState, deployment_name: str, build_id: str, task_queue: str, now_ms: int) -> None:
    """A worker of a version lives: make the version known, if it is not."""
    version = version_name(deployment_name, build_id)
    if state.routed and version not in state.versions.get(task_queue, ()):
        note_version(state, version, task_queue, now_ms)
        seen = DeploymentVersionSeen(
            deployment_name=deployment_name, build_id=build_id, task_queue=task_queue, time_ms=now_ms
        )
        state.outputs.append(Register(seen))


def routing_known(state: MatchingState, now_ms: int) -> None:
    """All that was decided on routing before the takeover is known: tasks that waited for it are placed."""
    state.routed = True
    # Those from before the takeover may still be in somebody's hands.
    _place_all(
        state, [task for task in state.undecided.values() if not state.grace or task.sequence > state.epoch], now_ms
    )


def _route_again(state: MatchingState, now_ms: int) -> None:
    """Make the routes anew, and move what waits on the wrong one: all tasks are looked at, which is seldom."""
    state.routes = _routes(state)
    if not state.routed:
        return  # nothing is placed yet
    moving = [
        task
        for task in state.tasks.values()
        if task.phase in (Phase.QUEUED, Phase.STICKY) and state.lane_of(task) != task.lane
    ]
    left = {task.lane for task in moving}
    for task in moving:
        detach(state, task)
        task.fair_start = None
    _place_all(state, moving, now_ms)
    for lane in left:
        state.drop_idle(lane)


def _place_all(state: MatchingState, tasks: list[TaskState], now_ms: int) -> None:
    for task in sorted(tasks, key=lambda task: task.sequence):
        state.undecided.pop(task.task_id, None)
        place(state, task, now_ms)


def _routes(state: MatchingState) -> dict[str, Route]:
    """For each task queue that a current or ramping version serves: the deployment that was changed last counts."""
    routes: dict[str, Route] = {}
    by_time = sorted(state.routings.values(), key=lambda known: (known[1].time_ms, known[1].deployment_name))
    for _, routing in by_time:
        current = version_name(routing.deployment_name, routing.current_build_id) if routing.current_build_id else ""
        ramping = routing.ramping_build_id
        if ramping:
            ramping = version_name(routing.deployment_name, ramping)
        for task_queue, versions in state.versions.items():
            if not any(version.startswith(f"{routing.deployment_name}.") for version in versions):
                continue
            own_ramping = ramping if ramping is not None and (not ramping or ramping in versions) else None
            own_current = current if current in versions else ""
            if own_current or own_ramping is not None:
                percentage = routing.ramping_percentage if own_ramping is not None else 0.0
                routes[task_queue] = Route(own_current, own_ramping, percentage)
            # A deployment whose versions get no new work leaves the task queue to others.
    return routes
