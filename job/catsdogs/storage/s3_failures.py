"""What went wrong in S3: every exception of boto3, botocore and urllib3, as one of `catsdogs.runtime.errors`.

Many of botocore's exceptions are also an OSError or a ValueError, as those of a failing disk or of a wrong argument
are. So a block that asks S3 for something has `s3_failures` around it, and no other handler inside that.
"""

import contextlib
import http.client
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from catsdogs.runtime.errors import Changed, ConfigError, JobError, NotFound, PermissionDenied, Unavailable, causes_of

MAX_SKEW = 15 * 60
"""Seconds between the clocks of client and server that S3 allows."""
MAX_REASON = 400
"""Characters of what a library or a server says that are shown."""
_DENIED = {
    "AccessDenied",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidIdentityToken",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
"""Error codes that may come with another status than 401 and 403."""
_TRANSIENT = {
    "BadDigest",
    "IDPCommunicationError",
    "IncompleteBody",
    "InternalError",
    "RequestLimitExceeded",
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
"""Error codes that may come with a status below 500."""
_CLOCK = {"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"}
_CLOCK_WORDS = ("Signature expired", "Signature not yet current", "time and the server's time is too large")
"""Error codes, and what other codes say, if the clocks of client and server are too far apart."""
_CREDENTIAL_OPERATIONS = ("AssumeRole", "AssumeRoleWithWebIdentity", "GetRoleCredentials", "CreateToken")
"""Requests of botocore itself, for the credentials of a role."""


@contextlib.contextmanager
def s3_failures(uri: str) -> Iterator[None]:
    """Turn an exception of boto3 in the block, about the object at `uri`, into one of ours. A bug stays as it is."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        raise _of_response(error.response, error.operation_name, uri) from error
    except ResponseParserError as error:
        raise Unavailable(
            f"{uri}: the answer is not one of S3 ({reason_of(error)}); check the endpoint, or try again later"
        ) from error
    except (BotoCoreError, Boto3Error, HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        raise _without_response(error, uri) from error


def reason_of(error: BaseException) -> str:
    """Return what the exception says, in one line that is not too long."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + "…"


def _of_response(response: Mapping[str, Any], operation: str, uri: str) -> JobError:
    """Return the error for a response that reports one."""
    code = response.get("Error", {}).get("Code", "")
    metadata = response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    reason = " ".join(f"{code} {response.get('Error', {}).get('Message', '')}".split())[:MAX_REASON]
    skewed = any(words in reason for words in _CLOCK_WORDS) or _is_skewed(metadata.get("HTTPHeaders", {}).get("date"))
    if code in _CLOCK or (status == 403 and skewed):
        return Unavailable(
            f"{uri}: storage refuses the time of the request ({reason}); the clock of this machine or of the storage is"
            " wrong: set it, then try again"
        )
    if status >= 500 or status in (409, 429) or code in _TRANSIENT:
        return Unavailable(f"{uri}: storage fails ({reason}); try again later")
    if operation in _CREDENTIAL_OPERATIONS:
        return PermissionDenied(f"{uri}: {operation} gives no credentials ({reason}); check the role and its trust")
    if code == "NoSuchBucket":
        bucket = "/".join(uri.split("/")[:3])
        return NotFound(f"{bucket}: no such bucket; check the name and the endpoint")
    if status == 404:
        return NotFound(f"{uri}: no such object; check the key")
    if status in (412, 416):
        # A changed object may be too short for the range; some servers check that before the etag.
        return Changed(uri)
    if status in (401, 403) or code in _DENIED:
        return PermissionDenied(f"{uri}: storage refuses ({reason}); check the credentials and what they allow")
    return ConfigError(f"{uri}: storage rejects the request ({reason}); check endpoint, region and name")


def _is_skewed(date: str | None) -> bool:
    """Whether a Date header is farther from this machine's clock than S3 allows: a HEAD's response says no more."""
    try:
        there = parsedate_to_datetime(date or "")
        return abs(time.time() - there.timestamp()) > MAX_SKEW
    except (ValueError, OverflowError):
        return False


def _without_response(error: Exception, uri: str) -> JobError:
    """Return the error for a failure without a response: no credentials, no connection, wrong settings."""
    from botocore import exceptions
    from urllib3.exceptions import HTTPError

    reason = reason_of(error)
    no_credentials = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError,
        exceptions.NoAuthTokenError,
        exceptions.SSOError,
        exceptions.LoginError,
    )
    if isinstance(error, no_credentials):
        return PermissionDenied(f"{uri}: {reason}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile")
    if _is_invalid_header(error):
        # Its text has the header, which is that of the signature.
        return ConfigError(f"{uri}: credentials or settings have a character that HTTP does not allow; check them")
    network = (
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        exceptions.ChecksumError,
        exceptions.FlexibleChecksumError,
        exceptions.MetadataRetrievalError,
        HTTPError,
        http.client.HTTPException,
    )
    local_file = isinstance(error, OSError) and error.filename is not None
    if isinstance(error, network) or (isinstance(error, OSError) and not local_file):
        return Unavailable(f"{uri}: {reason}; check the endpoint, or try again later")
    return ConfigError(f"{uri}: {reason}; check the AWS settings")


def _is_invalid_header(error: BaseException) -> bool:
    """Whether the HTTP client refused to send a header, which is a ValueError somewhere among the causes."""
    return any(
        isinstance(cause, ValueError) and str(cause).startswith(("Invalid header", "Invalid leading whitespace"))
        for cause in causes_of(error)
    )
