"""Tokens of pages, as the API shows and takes them: what the client has, in base64. Called by operations that list."""

from __future__ import annotations

import base64
import binascii

from perdure_ops.http_api.problems import ProblemError

__all__ = ["page_token", "page_token_text"]


def page_token_text(token: bytes | None) -> str | None:
    """A token as it is shown; ``None`` stays."""
    return None if token is None else base64.urlsafe_b64encode(token).decode()


def page_token(text: str) -> bytes | None:
    """A token that a caller sent; ``None`` for the first page.

    Raises:
        ProblemError: it is none.
    """
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True) if text else None
    except (binascii.Error, ValueError):
        detail = "page_token is none; give the next_page_token of the page before, unchanged"
        raise ProblemError(400, "INVALID_ARGUMENT", detail, "page_token") from None
