"""Maps what an API server answers to the plugin's failures. Pure."""

import json
import re

import urllib3

from kubectl_catsdogs.base.errors import (
    ConfigError,
    Conflict,
    Failure,
    Gone,
    NotFound,
    PermissionDenied,
    Unavailable,
)


def failure_of(status: int, message: str) -> Failure:
    match status:
        case 401:
            return PermissionDenied(f"the API server does not accept the credentials: {message}; log in again")
        case 403:
            return PermissionDenied(f"{message}; docs/kubectl.md has the Role that is needed")
        case 404:
            return NotFound(message)
        case 409:
            return Conflict(message)
        case 410:
            return Gone(message)
        case _ if status == 429 or status >= 500:
            return Unavailable(f"the API server answers {status}: {message}")
    return ConfigError(f"the API server answers {status}: {message}")


def message_of(response: urllib3.BaseHTTPResponse, body: bytes) -> str:
    """Return the message of a Status object, or the first line of what a proxy answered instead."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError, RecursionError):
        lines = body.decode(errors="replace").strip().splitlines()
        return lines[0][:200] if lines else str(response.reason)


def reason_of(error: Exception) -> str:
    """Return the error's text without the names of urllib3's objects."""
    return re.sub(r"^HTTPS?Connection(Pool)?\(.*?\): ", "", str(error)) or type(error).__name__


def seconds_of(retry_after: str | None) -> float:
    """Parse a Retry-After header, at most a minute. API servers send no dates; these count as 0."""
    return min(float(retry_after), 60.0) if retry_after and retry_after.isdecimal() else 0.0
