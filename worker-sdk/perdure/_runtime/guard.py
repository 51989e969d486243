"""Refuses what is not deterministic, where workflow code calls it: clocks, randomness, threads, processes, sockets.

Invariants: only code of a run that is guarded is refused anything, on its own thread and while it runs; only a *direct*
call from user code is refused, so what libraries (``logging``, ``asyncio``, converters) do inside goes on; everyone
else pays for one look at the running event loop. The wrappers are put in once for each process. See
``docs/adr/0011-determinism-guard.md``. Called by the runner, which knows the workflow classes.
"""

from __future__ import annotations

import concurrent.futures
import functools
import os
import random
import secrets
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import uuid
from asyncio import events
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from perdure._runtime.context import InstanceLoop
from perdure._runtime.errors import RestrictedWorkflowAccessError
from perdure._runtime.guarded_dates import guard_dates
from perdure._runtime.static_guard import calls_of_dates

_TIME = "workflow.now(), workflow.time() or workflow.time_ns()"
_DATES = "workflow.now()"
_RANDOM = "workflow.random()"
_ACTIVITY = "an activity"
_TASKS = "asyncio.create_task() for work in the workflow, an activity for all else"
_RANDOM_FUNCTIONS = (
    "betavariate", "choice", "choices", "expovariate", "gammavariate", "gauss", "getrandbits", "lognormvariate",
    "normalvariate", "paretovariate", "randbytes", "randint", "random", "randrange", "sample", "seed", "shuffle",
    "triangular", "uniform", "vonmisesvariate", "weibullvariate",
)  # fmt: skip
#: Functions in modules: the module, their names, what to use instead.
_FUNCTIONS: tuple[tuple[Any, tuple[str, ...], str], ...] = (
    (time, ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"), _TIME),
    (time, ("sleep",), "await asyncio.sleep() or workflow.sleep()"),
    (random, _RANDOM_FUNCTIONS, _RANDOM),
    (uuid, ("uuid1", "uuid4"), "workflow.uuid4() or workflow.uuid7()"),
    (secrets, ("choice", "randbelow", "randbits", "token_bytes", "token_hex", "token_urlsafe"), _ACTIVITY),
    (os, ("urandom", "getrandom"), _RANDOM),
    (os, ("system", "popen", "fork"), _ACTIVITY),
    (subprocess, ("run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"), _ACTIVITY),
    (socket, ("create_connection", "create_server", "getaddrinfo", "gethostbyname"), _ACTIVITY),
)
#: Methods of classes written in Python: the class, the method, what to use instead.
_METHODS: tuple[tuple[Any, str, str], ...] = (
    (threading.Thread, "start", _TASKS),
    (concurrent.futures.ThreadPoolExecutor, "submit", _TASKS),
    (concurrent.futures.ProcessPoolExecutor, "submit", _TASKS),
    (subprocess.Popen, "__init__", _ACTIVITY),
    (socket.socket, "__init__", _ACTIVITY),
)
_OWN_PACKAGES = frozenset({"perdure", "perdure_runtime", "perdure_schemas"})


class _GuardedFunction:
    """A function that user code of a guarded workflow cannot call.

    An object rather than a function: like the built-in it stands for, it is not bound when it is a class attribute.
    """

    def __init__(self, original: Callable[..., Any], module: str, name: str, instead: str) -> None:
        functools.update_wrapper(self, original)
        self.__module__ = module
        self.__qualname__ = name
        self._original = original
        self._what = f"{module}.{name}()"
        self._instead = instead

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        loop = events._get_running_loop()
        if type(loop) is InstanceLoop:
            _refuse_user_code(loop, sys._getframe(1), self._what, self._instead)
        return self._original(*args, **kwargs)

    def __reduce__(self) -> str:
        return self.__qualname__

    def __repr__(self) -> str:
        return repr(self._original)


_guarded: dict[int, _GuardedFunction] = {}
_install_lock = threading.Lock()
_user_packages: set[str] = set()
_library_folders: tuple[str, ...] = tuple(
    sorted({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
)
_own_folder = str(Path(__file__).resolve().parent.parent) + os.sep
_is_user_file: dict[tuple[str, str], bool] = {}


def guard(workflow_class: type) -> Iterator[str]:
    """Guard the code of a workflow class. May be called again, from any thread.

    Yields:
        What the code shows already now, before it runs: reading the clock by ``datetime``.
    """
    with _install_lock:
        _install()
        for cls in workflow_class.__mro__:
            package = cls.__module__.partition(".")[0]
            if package in _OWN_PACKAGES or package in sys.stdlib_module_names:
                continue
            if package not in _user_packages:
                _user_packages.add(package)
                _is_user_file.clear()
            _replace_imported(vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {})
    yield from calls_of_dates(workflow_class)


def is_user_code(filename: str, package: str = "") -> bool:
    """Whether a source file is neither Python's, nor an installed library's, nor ours.

    Args:
        filename: The file, as code objects name it.
        package: The outermost package it belongs to, if known: one that has workflows is the user's, even installed.
    """
    known = _is_user_file.get((filename, package))
    if known is None:
        library = package in _OWN_PACKAGES or filename.startswith((*_library_folders, _own_folder, "<frozen"))
        known = _is_user_file[filename, package] = package in _user_packages or not library
    return known


def _install() -> None:
    if _guarded:
        return
    for module, names, instead in _FUNCTIONS:
        for name in names:
            original = getattr(module, name, None)
            if original is not None:  # some are missing on some systems
                _guarded[id(original)] = function = _GuardedFunction(original, module.__name__, name, instead)
                setattr(module, name, function)
    for cls, name, instead in _METHODS:
        setattr(cls, name, _guarded_method(getattr(cls, name), f"{cls.__module__}.{cls.__qualname__}", name, instead))
    guard_dates(_check_clock)


def _check_clock(caller: FrameType, what: str) -> None:
    loop = events._get_running_loop()
    if type(loop) is InstanceLoop:
        _refuse_user_code(loop, caller, what, _DATES)


def _guarded_method(original: Callable[..., Any], owner: str, name: str, instead: str) -> Callable[..., Any]:
    what = f"{owner}()" if name == "__init__" else f"{owner}.{name}()"

    @functools.wraps(original)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        loop = events._get_running_loop()
        if type(loop) is InstanceLoop:
            _refuse_user_code(loop, sys._getframe(1), what, instead)
        return original(*args, **kwargs)

    return guarded


def _replace_imported(names: dict[str, Any]) -> None:
    """Replace what a module took by ``from time import time`` before the wrappers were there."""
    for name, value in list(names.items()):
        function = _guarded.get(id(value))
        if function is not None and function._original is value:
            names[name] = function


def _refuse_user_code(loop: InstanceLoop, caller: FrameType | None, what: str, instead: str) -> None:
    if loop.guards_off or loop.closing:
        return
    # Generated code, such as a dataclass's __init__, acts for whoever calls it.
    while caller is not None and caller.f_code.co_filename == "<string>":
        caller = caller.f_back
    if caller is None:
        return
    code = caller.f_code
    if is_user_code(code.co_filename, str(caller.f_globals.get("__name__", "")).partition(".")[0]):
        raise RestrictedWorkflowAccessError(
            f"workflow code called {what}, which does not give the same on replay: use {instead} instead "
            f"({code.co_filename}, line {caller.f_lineno}, in {code.co_qualname}). If it is harmless, call it within "
            "workflow.unsafe.sandbox_unrestricted()"
        )
