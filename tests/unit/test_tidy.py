"""Style that a linter does not check, checked by a test: size, documentation, and what product code never does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "broker-schemas/perdure_schemas",
    "runtime/perdure_runtime",
    "history/perdure_history",
    "matching/perdure_matching",
    "timers/perdure_timers",
    "worker-sdk/perdure",
    "ops/perdure_ops",
)
FILE_LINES_MAX = 500
_PARSES_MAX = 5
FUNCTION_LINES_MAX = 90
INVARIANTS = ("I1", "I2", "I3", "I4", "I5", "I6")

PRODUCT_FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TEST_FILES = sorted((ROOT / "tests").rglob("test_*.py"))


@cache
def _tree(path: Path) -> ast.Module:
    for _ in range(_PARSES_MAX - 1):
        try:
            return ast.parse(path.read_text(), filename=str(path))
        except SystemError:  # python/cpython#106905: another thread was parsing, too
            continue
    return ast.parse(path.read_text(), filename=str(path))


def _at(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def _calls(path: Path, name: str) -> Iterator[ast.Call]:
    """Calls of a function by its dotted name as written."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
            yield node


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_there_is_something_to_check() -> None:
    assert len(PRODUCT_FILES) > 20
    assert len(TEST_FILES) > 3


def test_every_module_says_what_it_is_responsible_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in PRODUCT_FILES
        if path.read_text().strip() and not ast.get_docstring(_tree(path))
    ]
    assert not silent


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): n
        for path in PRODUCT_FILES
        if (n := len(path.read_text().splitlines())) > FILE_LINES_MAX
    }
    assert not long


def test_functions_are_short() -> None:
    """Counted without the docstring: documenting a parameter must not cost anything."""
    long = {}
    for path in PRODUCT_FILES:
        for function in _functions(path):
            lines = (function.end_lineno or 0) - function.lineno + 1
            if ast.get_docstring(function) is not None:
                documentation = function.body[0]
                lines -= (documentation.end_lineno or 0) - documentation.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                long[f"{_at(path, function.lineno)} {function.name}"] = lines
    assert not long


def test_no_error_of_any_kind_is_swallowed() -> None:
    swallowed = []
    for path in PRODUCT_FILES:
        for node in ast.walk(_tree(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            if broad and all(isinstance(statement, ast.Pass) for statement in node.body):
                swallowed.append(_at(path, node.lineno))
        for call in _calls(path, "contextlib.suppress"):
            if any(ast.unparse(argument) in ("Exception", "BaseException") for argument in call.args):
                swallowed.append(_at(path, call.lineno))
    assert not swallowed


def test_nothing_is_left_to_do_in_a_comment() -> None:
    word = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    left = [
        _at(path, number)
        for path in PRODUCT_FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if word.search(line)
    ]
    assert not left


def test_product_code_never_sleeps_a_thread() -> None:
    """Waiting is on an event, a condition or a poll with a timeout, so that a stop ends it at once."""
    sleeping = [_at(path, call.lineno) for path in PRODUCT_FILES for call in _calls(path, "time.sleep")]
    assert not sleeping


#: Nothing that can run code out of bytes; those bytes may be a record's.
_FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib", "yaml"}
_FORBIDDEN_CALLS = {"eval", "exec", "__import__"}
#: Who may after all, what exactly, and why.
_ALLOWED_POWERS = {
    # Compiles readers and writers for the schemas of this package.
    ("perdure_schemas/decoder.py", "exec"),
    ("perdure_schemas/encoder.py", "exec"),
    # Asks whether an activity can be handed to a process of the worker's own; reads nothing.
    ("perdure/worker/_shared_state.py", "pickle.dumps"),
}


def _powers(path: Path) -> Iterator[tuple[str, int]]:
    """What a file uses that could run code out of bytes."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in _FORBIDDEN_MODULES:
            yield f"from {node.module}", node.lineno
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.asname and name.name.partition(".")[0] in _FORBIDDEN_MODULES:
                    yield f"{name.name} as {name.asname}", node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in _FORBIDDEN_MODULES:
                yield f"{node.value.id}.{node.attr}", node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FORBIDDEN_CALLS:
            yield node.func.id, node.lineno


def test_nothing_that_arrives_can_run_code() -> None:
    """No pickle, no eval: a record of a topic is data, whoever wrote it."""
    used = {
        (path.relative_to(ROOT).as_posix().partition("/")[2], power): _at(path, line)
        for path in PRODUCT_FILES
        for power, line in _powers(path)
    }
    assert not {power: place for power, place in used.items() if power not in _ALLOWED_POWERS}
    assert set(used) == _ALLOWED_POWERS, "an exception that nobody needs any more"


def test_only_ops_prints() -> None:
    printing = [
        _at(path, call.lineno)
        for path in PRODUCT_FILES
        if "perdure_ops" not in path.parts
        for call in _calls(path, "print")
    ]
    assert not printing


@pytest.mark.parametrize("invariant", INVARIANTS)
def test_each_invariant_is_named_where_it_is_kept_and_by_a_test(invariant: str) -> None:
    """A test that guards an invariant has it in its name: ``test_i3_a_doubled_completion_changes_nothing``."""
    word = re.compile(rf"\b{invariant}\b")
    assert any(word.search(path.read_text()) for path in PRODUCT_FILES), f"no source file mentions {invariant}"
    name = re.compile(rf"(^|_){invariant.lower()}(_|$)")
    assert any(name.search(function.name) for path in TEST_FILES for function in _functions(path)), (
        f"no test has {invariant.lower()} in its name"
    )
