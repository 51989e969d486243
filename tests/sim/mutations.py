"""Deliberately broken builds: what the simulation must catch, one mutation for each promise that somebody keeps.

Each is a small patch of the product for the time of a run, named after what it breaks and the invariant it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from perdure.worker._inbox import Inbox
from perdure_history.core import deadlines, decide
from perdure_history.core.commands import activity
from perdure_history.core.commands import deadline as deadline_command
from perdure_history.partition import HistoryPartition
from perdure_history.reactions import Reactions
from perdure_history.restore import Restore
from perdure_history.runs import Runs
from perdure_matching import service as matching_service
from perdure_runtime.checkpoints import Checkpoints
from perdure_runtime.fence import Fence
from perdure_runtime.processor import Processor
from perdure_schemas.records import DeadlineReached
from perdure_timers.core.pending import PendingTimers
from perdure_timers.service import TimersPartition

Patch = Callable[["Patches"], None]


class Patches:
    """Replaces attributes, and puts them back."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def put(self, owner: Any, name: str, value: Any) -> Any:
        """Replace an attribute; returns what stood there."""
        before = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
        self._before.append((owner, name, before))
        setattr(owner, name, value)
        return before

    def undo(self) -> None:
        """Put everything back."""
        for owner, name, value in reversed(self._before):
            setattr(owner, name, value)


@dataclass(frozen=True)
class Mutation:
    """A broken build."""

    name: str
    invariant: str
    patch: Patch


def _fence_not_checked(patches: Patches) -> None:
    patches.put(Fence, "admits", lambda self, source, epoch: True)


def _void_history_taken(patches: Patches) -> None:
    """The fold of history does not look at marks."""

    def fold_mark(self: Restore, record: Any) -> None:
        self._positions.folded_below = record.offset + 1

    patches.put(Restore, "_fold_mark", fold_mark)


def _late_mark(patches: Patches) -> None:
    """A new owner reads up to what it saw when it was assigned, not up to its own mark."""
    original = Processor.__dict__["_process"]

    def process(self: Processor, records: list[Any]) -> None:
        for owned in self._owned.values():
            if owned.phase.name == "RESTORING" and owned.folding.folded == 0:
                owned.epoch = max(0, owned.epoch - 3)
        original(self, records)

    patches.put(Processor, "_process", process)


def _epoch_of_the_first_owner(patches: Patches) -> None:
    """Tombstones under the newest epoch only."""
    patches.put(Reactions, "epochs_since", lambda self, epoch: [self._marks[-1]])


def _tombstones_of_the_first_epoch(patches: Patches) -> None:
    patches.put(Reactions, "epochs_since", lambda self, epoch: [epoch])


def _commands_decided_again(patches: Patches) -> None:
    """A new owner goes on at the group's offset, not behind the last folded command."""
    original = HistoryPartition.__dict__["take_over"]

    def take_over(self: HistoryPartition, epoch: int, committed: int | None, now_ms: int, outbox: Any) -> Any:
        offsets = original(self, epoch, committed, now_ms, outbox)
        self._positions.handled = self._read
        return offsets

    patches.put(HistoryPartition, "take_over", take_over)


def _commands_skipped(patches: Patches) -> None:
    """A new owner goes on one command too late."""
    original = HistoryPartition.__dict__["take_over"]

    def take_over(self: HistoryPartition, epoch: int, committed: int | None, now_ms: int, outbox: Any) -> Any:
        offsets = original(self, epoch, committed, now_ms, outbox)
        self._positions.handled += 1
        return offsets

    patches.put(HistoryPartition, "take_over", take_over)


def _nothing_sent_again(patches: Patches) -> None:
    patches.put(HistoryPartition, "_send_again", lambda self, run, effect, time_ms, offset, out: None)


def _checkpoint_before_acks(patches: Patches) -> None:
    """Checkpoints are committed and written without waiting for what was sent before them."""
    original = Checkpoints.__dict__["taken"]

    def taken(self: Checkpoints, offsets: dict[int, int], now_s: float) -> None:
        original(self, offsets, now_s)
        checkpoint = self._waiting.pop()
        self._to_write.append(checkpoint.batch)  # type: ignore[union-attr]
        self._to_commit.update(checkpoint.offsets)  # type: ignore[union-attr]

    patches.put(Checkpoints, "taken", taken)


def _commit_refused_and_ignored(patches: Patches) -> None:
    """State is written although the group did not take the commit."""
    original = Checkpoints.__dict__["_end_commit"]

    def end_commit(self: Checkpoints, commit: Any) -> None:
        class Taken:
            def error(self) -> None:
                return None

        commit.taken = Taken()
        original(self, commit)

    patches.put(Checkpoints, "_end_commit", end_commit)


def _restore_from_wrong_offset(patches: Patches) -> None:
    """The fold begins behind where the store stands."""
    original = HistoryPartition.__dict__["restore_offset"]

    def restore_offset(self: HistoryPartition) -> int | None:
        offset = original(self)
        return None if offset is None else offset + 2

    patches.put(HistoryPartition, "restore_offset", restore_offset)


def _matching_restores_late(patches: Patches) -> None:
    """Matching commits and resumes behind tasks that it has not stored."""
    original = matching_service.save_state

    def save_state(state: Any, bodies: Any, store: Any, positions: Any, fence: Any, now_ms: int) -> int:
        held = list(state.unstored.items())
        state.unstored.clear()
        try:
            return original(state, bodies, store, positions, fence, now_ms)
        finally:
            state.unstored.update(held)

    patches.put(matching_service, "save_state", save_state)


def _timer_not_validated(patches: Patches) -> None:
    """A wake-up is taken at its word: whatever waits is due."""
    original = deadlines.due_items

    def due_items(state: Any, now_ms: int) -> Any:
        return original(state, now_ms + 10_000)

    patches.put(deadline_command, "due_items", due_items)


def _old_wake_up_taken(patches: Patches) -> None:
    """The number of a wake-up is not compared with the run's."""
    original = decide._HANDLERS[DeadlineReached]

    def reached(state: Any, command: Any, body: Any, context: Any) -> Any:
        return original(state, command, msgspec.structs.replace(body, arm_number=state.wake_up_number), context)

    patches.put(decide, "_HANDLERS", {**decide._HANDLERS, DeadlineReached: reached})


def _timers_fire_early(patches: Patches) -> None:
    original = PendingTimers.__dict__["take_due"]
    patches.put(PendingTimers, "take_due", lambda self, now_ms, count_max: original(self, now_ms + 500, count_max))


def _timers_forgotten(patches: Patches) -> None:
    """A timer that fired is forgotten, and not sent again when nobody confirms it."""
    original = TimersPartition.__dict__["tick"]

    def tick(self: TimersPartition, now_ms: int, outbox: Any) -> None:
        original(self, now_ms, outbox)
        for timer_id in list(self._pending._sent):
            self._remove(timer_id)

    patches.put(TimersPartition, "tick", tick)


def _signals_not_deduplicated(patches: Patches) -> None:
    patches.put(Runs, "chain_has_taken", lambda self, run, command_id, now_ms: False)


def _completions_not_deduplicated(patches: Patches) -> None:
    """Whatever an attempt says counts for the one that is current."""
    patches.put(activity, "_current", lambda run, body: run.activity(body.scheduled_event_id))


def _dispatches_not_deduplicated(patches: Patches) -> None:
    """A worker obeys a deposed owner of matching, and runs a task again that it has."""

    original = Inbox.hold

    def hold(self: Inbox, task_id: str, partition: int, started_time_ms: int) -> bool:
        self._held.pop(task_id, None)
        self._finished.pop(task_id, None)
        return original(self, task_id, partition, started_time_ms)

    patches.put(Inbox, "admit", lambda self, dispatch: True)
    patches.put(Inbox, "hold", hold)


def _poison_stops_the_partition(patches: Patches) -> None:
    def quarantine(self: Processor, owned: Any, record: Any, error: Exception) -> None:
        raise error

    patches.put(Processor, "_quarantine", quarantine)


def _answers_not_repeated(patches: Patches) -> None:
    """Workflows that asked are not answered again after a takeover."""
    patches.put(HistoryPartition, "_answer_again", lambda self, record, outbox: None)


MUTATIONS = (
    Mutation("fence not checked", "I1", _fence_not_checked),
    Mutation("fold does not look at marks", "I1", _void_history_taken),
    Mutation("decides before its own mark", "I1", _late_mark),
    Mutation("tombstones of the newest epoch only", "I1", _epoch_of_the_first_owner),
    Mutation("tombstones of the first epoch only", "I1", _tombstones_of_the_first_epoch),
    Mutation("commands decided again", "I2", _commands_decided_again),
    Mutation("a command skipped at takeover", "I2", _commands_skipped),
    Mutation("restore from the wrong offset", "I2", _restore_from_wrong_offset),
    Mutation("signals not deduplicated", "I3", _signals_not_deduplicated),
    Mutation("attempts not told apart", "I3", _completions_not_deduplicated),
    Mutation("dispatches not deduplicated", "I3", _dispatches_not_deduplicated),
    Mutation("nothing sent again at takeover", "I4", _nothing_sent_again),
    Mutation("answers not repeated", "I4", _answers_not_repeated),
    Mutation("checkpoint before acknowledgements", "I4", _checkpoint_before_acks),
    Mutation("refused commit ignored", "I4", _commit_refused_and_ignored),
    Mutation("matching resumes too late", "I4", _matching_restores_late),
    Mutation("timers forgotten when fired", "I4", _timers_forgotten),
    Mutation("poison stops the partition", "I5", _poison_stops_the_partition),
    Mutation("timer not validated", "I6", _timer_not_validated),
    Mutation("wake-up not compared with the armed one", "I6", _old_wake_up_taken),
    Mutation("timers fire early", "I6", _timers_fire_early),
)


@contextmanager
def mutated(mutation: Mutation) -> Iterator[None]:
    """Within this, the build is broken."""
    patches = Patches()
    try:
        mutation.patch(patches)
        yield
    finally:
        patches.undo()


def seeds_needed(mutation: Mutation, seeds_max: int, steps: int = 60, first: int = 0) -> tuple[int | None, str]:
    """How many seeds catch a broken build, and what they say; ``None`` if none of ``seeds_max`` does.

    A seed that the unbroken build fails as well catches nothing, and neither does a patch that does not fit any more.
    """
    from tests.sim.simulation import simulate

    for number in range(seeds_max):
        with mutated(mutation):
            try:
                report = simulate(first + number, steps)
                caught, kind = report.breaches[:1], report.kind
            except AssertionError as error:
                caught, kind = [str(error)], "assertion"
        if any(misfit in breach for breach in caught for misfit in ("TypeError", "AttributeError", "NameError")):
            return None, f"it does not fit the build: {caught[0]}"
        if caught and not simulate(first + number, steps).breaches:
            return number + 1, kind
    return None, ""
