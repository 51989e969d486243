"""Whatever happens in whatever order: no task is lost or doubled, no slot exceeded, and the log rebuilds the state."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from perdure_matching.core.model import MatchingConfig, Phase
from perdure_schemas.records import FairnessKeyConfig
from tests.support.fakes import DictStore
from tests.support.matching import NAMES, Matching

WORKERS = st.sampled_from(["w1", "w2", "w3"])
#: The build id, in deployment "d", of the workers that have a version.
BUILDS = {"w3": "1", "last1": "1", "last2": "2"}


def version_of(worker: str) -> dict[str, str]:
    """What a worker says of its version."""
    return {"deployment_name": "d", "build_id": BUILDS[worker]} if worker in BUILDS else {}


QUEUES = st.sampled_from(["q", "p"])


class MatchingMachine(RuleBasedStateMachine):
    """Random tasks, workers, time and takeovers, against a small model of who runs what."""

    def __init__(self) -> None:
        super().__init__()
        self.config = MatchingConfig(store_after_ms=500, task_bodies_bytes_max=200)
        self.matching = Matching(config=self.config)
        #: What history has outstanding: task id → task queue.
        self.begun: set[str] = set()
        self.outstanding: dict[str, str] = {}
        #: What each worker holds, as it knows itself, and the most slots it ever offered.
        self.held: dict[tuple[str, str], set[str]] = {}
        self.slots_most: dict[tuple[str, str], tuple[int, int]] = {}
        self.saved: dict[bytes, bytes] = {}
        self.count = 0
        #: The build that a task is pinned to.
        self.pinned: dict[str, str] = {}

    def receive(self, sent: list[tuple[Any, ...]]) -> None:
        for message in sent:
            if message[0] == "run":
                _, worker, task_id = message
                assert task_id in self.outstanding, "a task that is over was dispatched"
                pinned = self.pinned.get(task_id)
                assert pinned in (None, BUILDS.get(worker)), f"{task_id} is pinned, and {worker} got it"
                self.held.setdefault((worker, self.outstanding[task_id]), set()).add(task_id)

    @rule(
        kind=st.sampled_from("waq"),
        queue=QUEUES,
        priority=st.integers(1, 5),
        key=st.sampled_from(["", "a"]),
        sticky=st.sampled_from(["", "w1", "w2"]),
        pinned=st.sampled_from(["", "", "1", "2"]),
    )
    def new_task(self, kind: str, queue: str, priority: int, key: str, sticky: str, pinned: str) -> None:
        self.count += 1
        task_id = f"r{self.count}/{kind}5.1"
        self.outstanding[task_id] = queue
        fields: dict[str, Any] = {"task_queue": queue, "priority": priority, "fairness_key": key}
        if sticky:
            fields |= {"sticky_worker_id": sticky, "sticky_until_ms": self.matching.now_ms + 700}
            if kind == "a":  # it has begun the activity, and takes it slot or no slot
                self.begun.add(task_id)
        if pinned:
            fields["version"] = f"d.{pinned}"
            if kind != "a":
                self.pinned[task_id] = pinned
        if kind == "w":
            fields["lease_ms_max"] = 3_000
        self.receive(self.matching.task(task_id, **fields))

    @precondition(lambda self: self.outstanding)
    @rule(data=st.data())
    def task_done(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.outstanding)))
        for held in self.held.values():
            held.discard(task_id)
        del self.outstanding[task_id]
        self.receive(self.matching.done(task_id))

    @precondition(lambda self: any(task.partition("/")[2][0] == "a" for task in self.outstanding))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        activities = [task for task in self.outstanding if task.partition("/")[2][0] == "a"]
        task_id = data.draw(st.sampled_from(sorted(activities)))
        queue = self.outstanding[task_id]
        self.receive(self.matching.task(task_id, task_queue=queue, cancel_requested=True))

    @rule(worker=WORKERS, queue=QUEUES, workflow=st.integers(0, 3), activity=st.integers(0, 3), draining=st.booleans())
    def beat(self, worker: str, queue: str, workflow: int, activity: int, draining: bool) -> None:
        key = (worker, queue)
        self.held.setdefault(key, set())
        most = self.slots_most.get(key, (0, 0))
        self.slots_most[key] = (max(most[0], workflow), max(most[1], activity))
        held = tuple(sorted(self.held[key]))
        send = self.matching.answer if data_answers(self.count) else self.matching.beat
        self.receive(
            send(
                worker,
                task_queue=queue,
                held=held,
                workflow_slots=workflow,
                activity_slots=activity,
                draining=draining,
                **version_of(worker),
            )
        )

    @rule(
        current=st.sampled_from(["", "1", "2"]),
        ramping=st.sampled_from([None, "", "1", "2"]),
        percentage=st.sampled_from([0.0, 50.0, 100.0]),
    )
    def route(self, current: str, ramping: str | None, percentage: float) -> None:
        self.receive(
            self.matching.route(current_build_id=current, ramping_build_id=ramping, ramping_percentage=percentage)
        )

    @rule(build=st.sampled_from(["1", "2"]), queue=QUEUES)
    def forget(self, build: str, queue: str) -> None:
        self.receive(self.matching.forget(f"d.{build}", queue))

    @rule(
        queue=QUEUES,
        task_type=st.sampled_from(["activity", "activity", "workflow"]),
        queue_rate=st.sampled_from([None, None, 0.0, 2.0]),
        key_rate=st.sampled_from([None, None, 1.0]),
        key_concurrency=st.sampled_from([None, 1, 2]),
        own=st.sampled_from([None, 0, 1, 3]),
    )
    def configure(
        self,
        queue: str,
        task_type: str,
        queue_rate: float | None,
        key_rate: float | None,
        key_concurrency: int | None,
        own: int | None,
    ) -> None:
        self.receive(
            self.matching.configure(
                FairnessKeyConfig(fairness_key="a", concurrency=own, weight=2.0),
                task_queue=queue,
                task_type=task_type,
                queue_rate=queue_rate,
                key_rate_default=key_rate,
                key_concurrency_default=key_concurrency,
            )
        )

    @rule(queue=QUEUES, task_type=st.sampled_from(["activity", "workflow"]))
    def unset(self, queue: str, task_type: str) -> None:
        self.receive(self.matching.unset(queue, task_type))

    @rule(duration_ms=st.sampled_from([0, 1, 100, 700, 1_000, 5_000]))
    def pass_time(self, duration_ms: int) -> None:
        self.receive(self.matching.advance(duration_ms))

    @rule()
    def checkpoint(self) -> None:
        self.matching.handler.checkpoint()
        self.saved = self.matching.store.snapshot()

    @rule(with_store=st.booleans())
    def take_over(self, with_store: bool) -> None:
        store = DictStore(self.saved if with_store else None)
        now_ms = self.matching.now_ms
        self.matching = Matching(self.matching.log, store, now_ms, self.config, owner=f"owner{self.count}")
        if not with_store:
            self.saved = {}
        self.receive(self.matching.poll())

    @invariant()
    def every_task_is_known_in_one_phase(self) -> None:
        self.matching.state.check()
        assert self.matching.state.tasks.keys() == self.outstanding.keys()
        for task in self.matching.state.tasks.values():
            assert task.phase is not Phase.GONE
            assert self.matching.handler._bodies.get(task) is not None

    @invariant()
    def slots_are_not_exceeded_by_our_own_dispatches(self) -> None:
        for queue in self.matching.state.queues.values():
            for worker in queue.workers.values():
                for kind in (0, 1):
                    own = sum(
                        task.dispatch_number > 0 and task.task_id not in self.begun
                        for task in worker.leases[kind].values()
                    )
                    # Slots that a worker takes back stay in use until their tasks are done.
                    most = self.slots_most.get((worker.worker_id, queue.name), (0, 0))
                    assert own <= most[kind]

    def teardown(self) -> None:
        """In the end a willing worker gets everything that is not lost or cancelled, and the log rebuilds it all."""
        matching = self.matching
        for queue, task_type in product(("q", "p"), ("activity", "workflow")):
            matching.unset(queue, task_type)
        matching.advance(6_000)
        for queue, worker in product(("q", "p"), ("last", "last1", "last2")):
            matching.beat(worker, task_queue=queue, workflow_slots=999, activity_slots=999, **version_of(worker))
        matching.advance(4_000)
        for queue, worker in product(("q", "p"), ("last", "last1", "last2")):
            matching.beat(worker, task_queue=queue, workflow_slots=999, activity_slots=999, **version_of(worker))
        for task in matching.state.tasks.values():
            if task.phase is Phase.PARKED:
                assert task.kind == "activity" or task.lease_count
            else:
                assert task.phase is Phase.LEASED, f"{task.task_id} is still {task.phase.name}"
        rebuilt = Matching(matching.log, DictStore(), matching.now_ms, self.config, owner="rebuilt")
        assert rebuilt.state.tasks.keys() == self.outstanding.keys()
        assert not rebuilt.driver.failures
        assert not matching.driver.failures


def data_answers(count: int) -> bool:
    """Every other heartbeat has seen our dispatches."""
    return count % 2 == 0


MatchingMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMatching = MatchingMachine.TestCase


def test_topics_of_the_scenario_are_those_of_the_namespace() -> None:
    matching = Matching()
    matching.task("r1/w3.1")
    assert set(matching.log.topics) == {NAMES.tasks, NAMES.deployments}
