"""The model: an activity. This one is a few rules; put the call of a real one in its place, the workflow stays."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from perdure import activity


@dataclass
class ToolCall:
    """What the model wants to have done. The id tells calls of one tool apart."""

    id: str
    tool: str
    argument: str


@dataclass
class Message:
    """One line of the conversation; the model's may be a call of a tool."""

    role: Literal["user", "model", "tool"]
    text: str
    call: ToolCall | None = None


_WISHES = {
    r"weather in (\w+)": "weather",
    r"refund order (\w+)": "refund",
}


@activity.defn
async def ask_model(messages: list[Message]) -> Message:
    """The model's next message. A real model's errors would be retried by the activity's retry policy."""
    last = messages[-1]
    if last.role == "tool":
        if last.text.startswith("error: "):
            return Message("model", f"Sorry, that did not work: {last.text.removeprefix('error: ')}.")
        return Message("model", f"Done: {last.text}.")
    for wish, tool in _WISHES.items():
        found = re.search(wish, last.text)
        if found:
            return Message("model", "", ToolCall(f"call-{len(messages)}", tool, found[1]))
    return Message("model", "I can tell you the weather in a city, and refund an order.")
