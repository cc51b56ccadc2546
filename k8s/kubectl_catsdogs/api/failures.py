"""What an API server's refusals mean: from a status and its words to a kind of failure. Pure."""

import json
import re

import urllib3

from kubectl_catsdogs.base.errors import Conflict, Contradiction, Failure, Gone, NotFound, Refused, Unavailable


def failure_of(status: int, message: str) -> Failure:
    """The API server's words, as the kind of failure that they are."""
    match status:
        case 401:
            return Refused(f"the API server does not know the user: {message}; log in again")
        case 403:
            return Refused(f"{message}; docs/kubectl.md has the Role that is needed")
        case 404:
            return NotFound(message)
        case 409:
            return Conflict(message)
        case 410:
            return Gone(message)
        case _ if status == 429 or status >= 500:
            return Unavailable(f"the API server answers {status}: {message}")
    return Contradiction(f"the API server answers {status}: {message}")


def message_of(response: urllib3.BaseHTTPResponse, text: bytes) -> str:
    """What a Status object says, or the first line of what a proxy says instead."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, TypeError, KeyError):
        lines = text.decode(errors="replace").strip().splitlines()
        return lines[0][:200] if lines else str(response.reason)


def reason_of(error: Exception) -> str:
    """Without urllib3's names of its own objects."""
    return re.sub(r"^HTTPS?Connection(Pool)?\(.*?\): ", "", str(error)) or type(error).__name__


def seconds_of(retry_after: str | None) -> float:
    """Of a Retry-After header, which may be a date as well: API servers send none."""
    return min(float(retry_after), 60.0) if retry_after and retry_after.isdecimal() else 0.0
