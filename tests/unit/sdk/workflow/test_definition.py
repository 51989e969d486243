"""What may be a workflow, and the messages for what may not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from perdure import workflow
from perdure._runtime.definition import WorkflowDefinition, workflow_name_and_result_type
from perdure._runtime.handler_definitions import query_name_and_result_type, signal_name
from perdure.common import RawValue
from perdure_schemas.records import WorkflowTaskCompleted
from tests.support.history_builder import History, result_of, run, runner


@workflow.defn(name="named")
class Named:
    @workflow.run
    async def run(self, text: str, number: int = 1) -> list[int]:
        return [number]

    @workflow.signal(name="sig")
    def on_signal(self) -> None: ...

    @workflow.signal(dynamic=True)
    def on_any(self, name: str, args: Sequence[RawValue]) -> None: ...

    @workflow.query(name="qry", description="what it says")
    def on_query(self) -> dict[str, int]:
        return {}


def test_a_definition_knows_names_and_types() -> None:
    definition = WorkflowDefinition.must_from_class(Named)
    assert (definition.name, definition.arg_types, definition.ret_type) == ("named", [str, int], list[int])
    assert set(definition.signals) == {"sig", None}
    assert definition.queries["qry"].description == "what it says"
    assert workflow_name_and_result_type("text") == ("text", None)
    assert workflow_name_and_result_type(Named.run) == ("named", list[int])
    assert workflow_name_and_result_type(Named) == ("named", list[int])
    assert signal_name(Named.on_signal) == "sig"
    assert signal_name("text") == "text"
    assert query_name_and_result_type(Named.on_query) == ("qry", dict[str, int])


def test_functions_that_are_not_marked_are_refused() -> None:
    class Plain:
        async def run(self) -> None: ...

    with pytest.raises(ValueError, match=r"@workflow\.defn"):
        workflow_name_and_result_type(Plain)
    with pytest.raises(ValueError, match=r"@workflow\.run"):
        workflow_name_and_result_type(Plain.run)
    with pytest.raises(TypeError, match=r"@workflow\.signal"):
        signal_name(Plain.run)
    with pytest.raises(TypeError, match="dynamic"):
        signal_name(Named.on_any)
    with pytest.raises(TypeError, match=r"@workflow\.query"):
        query_name_and_result_type(Plain.run)
    with pytest.raises(ValueError, match=r"@workflow\.defn"):
        runner(Plain)


def test_two_workflows_of_one_name_are_refused() -> None:
    @workflow.defn(name="named")
    class Twin:
        @workflow.run
        async def run(self) -> None: ...

    with pytest.raises(ValueError, match="two workflows are named 'named'"):
        runner(Named, Twin)


def _without_run() -> None:
    @workflow.defn
    class Wrong: ...


def _two_runs() -> None:
    @workflow.defn
    class Wrong:
        @workflow.run
        async def one(self) -> None: ...

        @workflow.run
        async def two(self) -> None: ...


def _inherited_run() -> None:
    class Base:
        @workflow.run
        async def run(self) -> None: ...

    @workflow.defn
    class Wrong(Base): ...


def _init_with_parameters() -> None:
    @workflow.defn
    class Wrong:
        def __init__(self, number: int) -> None: ...

        @workflow.run
        async def run(self, number: int) -> None: ...


def _init_with_other_parameters() -> None:
    @workflow.defn
    class Wrong:
        @workflow.init
        def __init__(self, number: str) -> None: ...

        @workflow.run
        async def run(self, number: int) -> None: ...


def _two_signals_of_one_name() -> None:
    @workflow.defn
    class Wrong:
        @workflow.run
        async def run(self) -> None: ...

        @workflow.signal(name="a")
        def one(self) -> None: ...

        @workflow.signal(name="a")
        def two(self) -> None: ...


def _undecorated_override() -> None:
    class Base:
        @workflow.signal
        def sig(self) -> None: ...

    @workflow.defn
    class Wrong(Base):
        @workflow.run
        async def run(self) -> None: ...

        def sig(self) -> None: ...


def _bad_failure_types() -> None:
    @workflow.defn(failure_exception_types=["ValueError"])  # type: ignore[list-item]
    class Wrong:
        @workflow.run
        async def run(self) -> None: ...


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_without_run, "no @workflow.run"),
        (_two_runs, "more than one"),
        (_inherited_run, "only on the base class"),
        (_init_with_parameters, "put @workflow.init before it"),
        (_init_with_other_parameters, "must have the parameters of the run method"),
        (_two_signals_of_one_name, "two signal handlers named 'a'"),
        (_undecorated_override, "decorate it, too"),
        (_bad_failure_types, "no exception type"),
    ],
)
def test_a_wrong_workflow_class_is_refused_where_it_is_made(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match="invalid workflow class") as raised:
        make()
    assert message in str(raised.value)


def test_wrong_methods_are_refused() -> None:
    def plain(self: Any) -> None: ...

    async def keyword_only(self: Any, *, x: int) -> None: ...

    async def waits(self: Any) -> None: ...

    def two(self: Any, name: str) -> None: ...

    with pytest.raises(ValueError, match="async"):
        workflow.run(plain)  # type: ignore[type-var]
    with pytest.raises(ValueError, match="keyword-only"):
        workflow.run(keyword_only)
    with pytest.raises(TypeError, match="keyword-only"):
        workflow.signal(keyword_only)
    with pytest.raises(TypeError, match="async"):
        workflow.query(waits)
    with pytest.raises(TypeError, match="two parameters"):
        workflow.signal(dynamic=True)(two)
    with pytest.raises(ValueError, match="__init__"):
        workflow.init(plain)
    with pytest.raises(ValueError, match="reserved"):
        workflow.query(name="__x")(plain)
    with pytest.raises(ValueError, match="no name of its own"):
        workflow.defn(name="x", dynamic=True)


def test_inherited_handlers_count_and_may_be_replaced() -> None:
    class Base:
        @workflow.signal
        def sig(self) -> None: ...

        @workflow.query
        def qry(self) -> int:
            return 1

    @workflow.defn
    class Derived(Base):
        @workflow.run
        async def run(self) -> None: ...

        @workflow.query
        def qry(self) -> int:
            return 2

    definition = WorkflowDefinition.must_from_class(Derived)
    assert set(definition.signals) == {"sig"}
    assert definition.queries["qry"].fn is Derived.qry


@workflow.defn(dynamic=True)
class Dynamic:
    @workflow.init
    def __init__(self, args: Sequence[RawValue]) -> None:
        self.count = len(args)

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> str:
        values = [workflow.payload_converter().from_payload(arg.payload, int) for arg in args]
        return f"{workflow.info().workflow_type} {self.count} {values}"


def test_a_dynamic_workflow_takes_the_types_that_no_other_has() -> None:
    one = runner(Dynamic, Known)
    for name, args, result in (("anything", (1, 2), "anything 2 [1, 2]"), ("other", (), "other 0 []")):
        history = History(name, *args, run_id=name)
        completed = run(one, history, history.task())
        assert isinstance(completed, WorkflowTaskCompleted), completed
        assert result_of(completed.commands) == result
    history = History("known", run_id="known")
    completed = run(one, history, history.task())
    assert isinstance(completed, WorkflowTaskCompleted)
    assert result_of(completed.commands) == "known"


@workflow.defn(name="known")
class Known:
    @workflow.run
    async def run(self) -> str:
        return workflow.info().workflow_type


def test_a_dynamic_workflow_takes_raw_values_and_is_alone_and_nameless() -> None:
    def takes_a_number() -> None:
        @workflow.defn(dynamic=True)
        class _Wrong:
            @workflow.run
            async def run(self, number: int) -> None: ...

    with pytest.raises(ValueError, match=r"Sequence\[RawValue\]"):
        takes_a_number()

    @workflow.defn(dynamic=True)
    class _Second:
        @workflow.run
        async def run(self, args: Sequence[RawValue]) -> None: ...

    with pytest.raises(ValueError, match="two workflows are dynamic"):
        runner(Dynamic, _Second)
    with pytest.raises(ValueError, match="start it by a name"):
        workflow_name_and_result_type(Dynamic.run)
