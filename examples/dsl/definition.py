"""What a definition may say, and everything that can be wrong with one. Pure: the same on client and worker.

A definition is ``{"inputs": [names], "do": [steps], "result": value}``. A step is one of ::

    {"call": "activity", "with": [values], "as": "name"}      "with" and "as" may be left out
    {"parallel": [steps]}
    {"if": [value, "==", value], "then": [steps], "else": [steps]}
    {"wait": seconds}

and wherever a step stands, a list of steps may stand, too: a sequence. A value is JSON; a text ``"$name"`` stands for
an input or for the result of an earlier call.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from typing import Any

OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
#: Each kind of step, with the fields that it may have besides.
_KINDS = {"call": {"with", "as"}, "parallel": set[str](), "if": {"then", "else"}, "wait": set[str]()}


class DefinitionError(ValueError):
    """A definition cannot be run. ``faults`` says everything that is wrong, each with its place."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def check(definition: Any, activities: Collection[str], inputs: Collection[str]) -> None:
    """Look at all of a definition before any of it is run.

    Args:
        definition: What came out of the JSON.
        activities: The names that ``call`` may use.
        inputs: The names of the inputs that are given.

    Raises:
        DefinitionError: it cannot be run.
    """
    checker = _Checker(activities)
    checker.definition(definition, set(inputs))
    if checker.faults:
        raise DefinitionError(checker.faults)


class _Checker:
    """Walks through a definition. What looks at a step returns the names that are known behind it."""

    def __init__(self, activities: Collection[str]) -> None:
        self._activities = activities
        self.faults: list[str] = []

    def definition(self, definition: Any, given: set[str]) -> None:
        if not isinstance(definition, Mapping) or "do" not in definition:
            self._fault("definition", 'it has to be an object with "do"')
            return
        for field in sorted(definition.keys() - {"inputs", "do", "result"}):
            self._fault("definition", f'there is no field "{field}"')
        inputs = definition.get("inputs", [])
        if not isinstance(inputs, list) or not all(isinstance(name, str) for name in inputs):
            self._fault("inputs", "a list of names is needed")
            inputs = []
        for name in inputs:
            if name not in given:
                self._fault("inputs", f'"{name}" is not given')
        known = self._step("do", definition["do"], set(inputs))
        self._value("result", definition.get("result"), known)

    def _step(self, place: str, step: Any, known: set[str]) -> set[str]:
        if isinstance(step, list):
            for number, one in enumerate(step):
                known = self._step(f"{place}[{number}]", one, known)
            return known
        kinds = [kind for kind in _KINDS if isinstance(step, Mapping) and kind in step]
        if len(kinds) != 1:
            self._fault(place, f"a step is a list, or has one of {', '.join(_KINDS)}")
            return known
        (kind,) = kinds
        for field in sorted(step.keys() - _KINDS[kind] - {kind}):
            self._fault(place, f'"{kind}" has no field "{field}"')
        look = {"call": self._call, "parallel": self._parallel, "if": self._if, "wait": self._wait}[kind]
        return look(place, step, known)

    def _call(self, place: str, step: Mapping[str, Any], known: set[str]) -> set[str]:
        if step["call"] not in self._activities:
            self._fault(place, f'no activity "{step["call"]}"; there are {", ".join(sorted(self._activities))}')
        values, name = step.get("with", []), step.get("as")
        if not isinstance(values, list):
            self._fault(place, '"with" is a list of values')
        self._value(f"{place}.with", values, known)
        if name is not None and not isinstance(name, str):
            self._fault(place, '"as" is a name')
        return known | {name} if isinstance(name, str) else known

    def _parallel(self, place: str, step: Mapping[str, Any], known: set[str]) -> set[str]:
        branches = step["parallel"]
        if not isinstance(branches, list):
            self._fault(f"{place}.parallel", "a list of steps is needed")
            return known
        # No branch knows what another one finds; what comes behind them knows all of it.
        found = [self._step(f"{place}.parallel[{number}]", branch, known) for number, branch in enumerate(branches)]
        return known.union(*found)

    def _if(self, place: str, step: Mapping[str, Any], known: set[str]) -> set[str]:
        condition = step["if"]
        if isinstance(condition, list) and len(condition) == 3 and str(condition[1]) in OPERATORS:
            self._value(f"{place}.if", condition, known)
        else:
            self._fault(place, f"a condition is [value, operator, value] with one of {' '.join(OPERATORS)}")
        if "then" not in step:
            self._fault(place, '"if" needs "then"')
        found = [self._step(f"{place}.{name}", step.get(name, []), known) for name in ("then", "else")]
        return found[0] & found[1]

    def _wait(self, place: str, step: Mapping[str, Any], known: set[str]) -> set[str]:
        if not isinstance(step["wait"], int | float) or step["wait"] < 0:
            self._fault(place, '"wait" takes a number of seconds')
        return known

    def _value(self, place: str, value: Any, known: set[str]) -> None:
        if isinstance(value, list):
            for one in value:
                self._value(place, one, known)
        elif isinstance(value, str) and value.startswith("$") and value[1:] not in known:
            self._fault(place, f"{value} is not known here")

    def _fault(self, place: str, what: str) -> None:
        self.faults.append(f"{place}: {what}")
