"""Unique ids, made without a system call each.

``uuid.uuid4`` asks the kernel every time and lets go of the interpreter's lock while it does; with several busy
threads, getting the lock back costs far more than the id. Invariant: ids of different processes never agree, because
each process, a forked one too, seeds its generator from the kernel. Called wherever the SDK names something.
"""

from __future__ import annotations

import os
import random
import uuid

_generator = random.Random(os.urandom(32))  # noqa: S311 # ids need to be unique, not secret
_BITS = 128

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _generator.seed(os.urandom(32)))


def new_id() -> str:
    """A new id: 32 hexadecimal digits."""
    return f"{_generator.getrandbits(_BITS):032x}"


def new_run_id() -> str:
    """A new run id, in the form of a UUID of version 4."""
    return str(uuid.UUID(int=_generator.getrandbits(_BITS), version=4))
