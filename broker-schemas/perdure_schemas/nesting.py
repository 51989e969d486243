"""How deeply a JSON text is nested, found before it is decoded: decoders recurse, and the stack is not theirs alone.

Whether a text is too deep must not depend on who decodes it, or a workflow could fail on replay. Pure; called by
whoever decodes JSON from outside.
"""

from __future__ import annotations

import re

from perdure_schemas.limits import NESTING_MAX

__all__ = ["is_too_deep"]

#: A string, or what is left of the text behind a quote without a partner, so that no text is gone through twice.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"{}[]"))


def is_too_deep(text: bytes, levels_max: int = NESTING_MAX) -> bool:
    """Whether arrays and objects stand in each other more than ``levels_max`` times. Linear in the text's length."""
    if text.count(b"[") + text.count(b"{") <= levels_max:
        return False
    left = _STRING.sub(b"", text).translate(_BRACKETS, _OTHERS)
    for _ in range(levels_max):
        fewer = left.replace(b"[]", b"")
        if len(fewer) == len(left):
            break
        left = fewer
    return left.count(b"[") > 0 and (b"[]" in left or left.count(b"[") > levels_max)
