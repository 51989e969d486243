"""A schema registry over HTTP, as far as registering schemas needs it. Speaks the API of Confluent's registry.

Invariants: only addresses of HTTP are asked; every call is bounded in time and size; what goes wrong is said with the
registry's own words, and without credentials. Called by :mod:`perdure_ops.schema_registration`.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from perdure_ops.errors import CliError

_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_TIMEOUT_S = 15.0
_ANSWER_BYTES_MAX = 16 * 1024 * 1024
_NOT_FOUND = 404


class RegistryClient:
    """Asks one registry.

    Args:
        url: its address; a user and a password in it are sent as basic authentication.
        authorization: the header ``Authorization``, instead of those.

    Raises:
        CliError: the address is none of HTTP.
    """

    def __init__(self, url: str, authorization: str | None = None) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        if parts.scheme not in ("http", "https") or not host:
            raise CliError(
                f"the schema registry must be an address like http://HOST:8081, not {url.rpartition('@')[2]!r}"
            )
        self.address = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._headers = {"Content-Type": _CONTENT_TYPE, "Accept": f"{_CONTENT_TYPE}, application/json"}
        if authorization is None and parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = f"Basic {base64.b64encode(user.encode()).decode()}"
        if authorization is not None:
            self._headers["Authorization"] = authorization

    def id_of(self, subject: str, schema: str) -> int | None:
        """The id of a schema of a subject; ``None`` if the subject does not have it.

        Raises:
            CliError: the registry gave no usable answer.
        """
        answer = self._ask("POST", f"/subjects/{quote(subject, safe='')}", {"schema": schema})
        return None if answer is None else self._number(answer)

    def faults(self, subject: str, schema: str) -> list[str]:
        """Why a schema may not follow the newest one of a subject; empty if it may, or if there is none yet.

        Raises:
            CliError: the registry gave no usable answer.
        """
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions/latest?verbose=true"
        answer = self._ask("POST", path, {"schema": schema})
        if answer is None or answer.get("is_compatible") is True:
            return []
        return [str(message) for message in answer.get("messages") or ["the registry gives no reason"]]

    def register(self, subject: str, schema: str) -> int:
        """Register a schema; returns its id.

        Raises:
            CliError: the registry refused it, or gave no usable answer.
        """
        answer = self._ask("POST", f"/subjects/{quote(subject, safe='')}/versions", {"schema": schema})
        if answer is None:
            raise CliError(f"{self.address} is no schema registry: it does not know /subjects/…/versions")
        return self._number(answer)

    def _number(self, answer: dict[str, Any]) -> int:
        number = answer.get("id")
        if not isinstance(number, int):
            raise CliError(f"the schema registry {self.address} gave no id: {json.dumps(answer)[:200]}")
        return number

    def _ask(self, method: str, path: str, body: dict[str, str]) -> dict[str, Any] | None:
        """The registry's answer; ``None`` if it does not know what is asked for."""
        request = urllib.request.Request(  # noqa: S310 # checked: HTTP only
            self.address + path, json.dumps(body).encode(), self._headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
                text = response.read(_ANSWER_BYTES_MAX)
            answer = json.loads(text)
        except urllib.error.HTTPError as error:
            said = error.read(2_000).decode(errors="replace")
            if error.code == _NOT_FOUND and '"error_code"' in said:
                return None
            raise CliError(f"the schema registry {self.address} answered {error.code} to {path}: {said}") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise CliError(f"the schema registry {self.address} gave no usable answer: {reason}") from None
        if not isinstance(answer, dict):
            raise CliError(f"the schema registry {self.address} answered something else than an object to {path}")
        return answer
