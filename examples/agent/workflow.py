"""The agent's loop: ask the model; do what it wants, or tell the user what it says; wait for the user."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from examples.agent.model import Message, ToolCall, ask_model
from examples.agent.tools import DANGEROUS
from perdure import workflow
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError, ApplicationError

TASK_QUEUE = "agents"
WITHIN = timedelta(minutes=2)
APPROVAL_PATIENCE = timedelta(hours=1)
TOOL_RETRIES = RetryPolicy(maximum_attempts=3)
#: What goes over into a new run, and so what the model remembers of a long conversation.
MESSAGES_KEPT = 20


@dataclass
class Conversation:
    """What was said: what one run hands to the next.

    Attributes:
        messages: The last messages, oldest first.
        unanswered: Questions that the next run begins with.
        ended: Whether the user has said good-bye: the next run does not get this run's signals again.
        turns_per_run: After so many questions the history is long enough for a new run.
    """

    messages: list[Message] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    ended: bool = False
    turns_per_run: int = 50


@workflow.defn
class Agent:
    """One conversation. Returns its last messages."""

    @workflow.init
    def __init__(self, conversation: Conversation) -> None:
        self._messages = conversation.messages
        self._questions = conversation.unanswered
        self._waiting_for: ToolCall | None = None
        self._approved: bool | None = None
        self._ended = conversation.ended

    @workflow.run
    async def run(self, conversation: Conversation) -> list[Message]:
        for _ in range(conversation.turns_per_run):
            await workflow.wait_condition(lambda: bool(self._questions) or self._ended)
            if not self._questions:
                return self._messages
            self._messages.append(Message("user", self._questions.pop(0)))
            await self._answer()
            if workflow.info().is_continue_as_new_suggested():
                break
        kept = self._messages[-MESSAGES_KEPT:]
        workflow.continue_as_new(Conversation(kept, self._questions, self._ended, conversation.turns_per_run))

    async def _answer(self) -> None:
        """Let the model use tools until it has an answer."""
        while True:
            said = await workflow.execute_activity(ask_model, self._messages, start_to_close_timeout=WITHIN)
            self._messages.append(said)
            if said.call is None:
                return
            self._messages.append(Message("tool", await self._use(said.call)))

    async def _use(self, call: ToolCall) -> str:
        """What the tool gives. An error is told to the model, too: it may know another way."""
        if call.tool in DANGEROUS and not await self._is_approved(call):
            return "error: the user did not approve"
        try:
            # By name: the model chooses. A name that no worker knows must not be retried for ever.
            result: str = await workflow.execute_activity(
                call.tool, call.argument, start_to_close_timeout=WITHIN, retry_policy=TOOL_RETRIES
            )
        except ActivityError as error:
            return f"error: {error.cause}"
        return result

    async def _is_approved(self, call: ToolCall) -> bool:
        self._waiting_for, self._approved = call, None
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._approved is not None, timeout=APPROVAL_PATIENCE)
        self._waiting_for = None
        return self._approved is True

    @workflow.signal
    def ask(self, question: str) -> None:
        self._questions.append(question)

    @workflow.signal
    def end(self) -> None:
        self._ended = True

    @workflow.update
    def approve(self, call_id: str, approved: bool) -> None:
        self._approved = approved

    @approve.validator
    def _check(self, call_id: str, approved: bool) -> None:
        # The call that the person has seen, not whichever waits when the click arrives.
        if self._waiting_for is None or self._waiting_for.id != call_id or self._approved is not None:
            raise ApplicationError(f"no call {call_id} waits for approval")

    @workflow.query
    def waiting_for(self) -> ToolCall | None:
        """The call that waits for approval."""
        return self._waiting_for

    @workflow.query
    def messages(self) -> list[Message]:
        return self._messages
