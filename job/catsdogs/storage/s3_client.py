"""The S3 client of a bucket and of the stores within it, with the credentials of the AWS chain.

Credentials may be replaced while the job runs: in a file, by a program, by a role's service. botocore reads those
again that say when they expire; others, or those that are revoked before, are read again once storage refuses them.
"""

import os
import threading
from typing import TYPE_CHECKING, Any

from catsdogs.runtime.errors import ConfigError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0
"""Seconds of silence, in either direction, after which a request is abandoned."""


class SharedClient:
    """A client for any number of stores and threads. Imports boto3 when it is first used."""

    def __init__(self, addressing_style: str):
        self._addressing_style = addressing_style
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._signed = threading.local()
        self._unconfirmed = False

    @property
    def current(self) -> "S3Client":
        """The client. The first use raises what boto3 raises for wrong settings."""
        with self._lock:
            if self._client is None:
                self._client, _ = self._new()
            return self._client

    def renew(self, refused: "S3Client") -> bool:
        """Read the credentials again, after a request of this thread was refused.

        Return whether the current client has others than the refused one had. Raises what boto3 raises.
        """
        with self._lock:
            # Another thread may have been faster.
            if self._client is refused:
                client, credentials = self._new()
                if credentials is None or credentials == getattr(self._signed, "credentials", None):
                    return False
                self._client, self._unconfirmed = client, True
            return True

    def confirm(self) -> bool:
        """Note a request that was not refused. Return whether it is the first one with credentials read again."""
        if not self._unconfirmed:
            return False
        with self._lock:
            unconfirmed, self._unconfirmed = self._unconfirmed, False
            return unconfirmed

    def _new(self) -> "tuple[S3Client, Any]":
        """Return a new client, and its credentials as they are now; None without any."""
        # Imported here, so that work on local files does not wait for it.
        import boto3
        from botocore.config import Config

        config = Config(
            s3={"addressing_style": self._addressing_style},  # type: ignore[arg-type]
            # Only our own code retries: botocore gives up on a refused connection after a second.
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=32,
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
        )
        session = boto3.session.Session()
        # Of all clients of the session, so also of those that ask a role's service for credentials.
        session.events.register("before-sign", self._before_sign)
        credentials = session.get_credentials()
        return session.client("s3", config=config), credentials and credentials.get_frozen_credentials()

    def _before_sign(self, request_signer: Any, **_: Any) -> None:
        """Note with which credentials this thread signs. Raises ConfigError for some that no storage can accept."""
        # botocore has no other name for it.
        credentials = request_signer._credentials
        if credentials is not None:
            frozen = credentials.get_frozen_credentials()
            _check(frozen, credentials.method)
            self._signed.credentials = frozen


def _check(credentials: Any, source: str) -> None:
    """Raises ConfigError if a credential has a character that does not belong there, and names none of its others.

    Such a secret key only makes a wrong signature; the HTTP client refuses the others, with the text of the header.
    """
    for name, value, in_header in (
        ("access_key_id", credentials.access_key, True),
        ("secret_access_key", credentials.secret_key, False),
        ("session_token", credentials.token, True),
    ):
        fault = _fault(value or "", in_header)
        if fault:
            variable = f"AWS_{name.upper()}"
            # The token has an older name as well.
            origin = _ORIGINS.get(source, f"from {source}")
            shown = variable if source == "env" and variable in os.environ else f"aws_{name} ({origin})"
            raise ConfigError(f"{shown} {fault}; write it without, such as with printf instead of echo")


_ORIGINS = {"explicit": "of the source of a role"}
"""By botocore's name for where credentials are from. Nobody but botocore, for a role, gives them to a client."""
_BLANKS = {"\n": "a newline", "\r": "a carriage return", " ": "a space", "\t": "a tab"}


def _fault(value: str, in_header: bool) -> str | None:
    """Return what is wrong with a credential."""
    for char, where in ((value[-1:], "ends with"), (value[:1], "begins with")):
        if char.isspace():
            return f"{where} {_BLANKS.get(char, 'an unprintable character')}"
    for char in value:
        if not char.isprintable():
            return f"contains {_BLANKS.get(char, 'an unprintable character')}"
        if in_header and not char.isascii():
            return "contains a character that is not ASCII"
    return None
