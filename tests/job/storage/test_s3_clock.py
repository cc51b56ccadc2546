"""A clock that is wrong is not taken for wrong credentials."""

import time
from email.utils import formatdate

import pytest
from botocore.exceptions import ClientError

from catsdogs.runtime.errors import PermissionDenied, Unavailable
from catsdogs.storage.s3_failures import s3_failures


def response(code: str, message: str, operation: str = "PutObject") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 403}},  # type: ignore[typeddict-item]
        operation,
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
        ("RequestExpired", "Request has expired."),
        ("SignatureDoesNotMatch", "Signature expired: 20261128T000000Z is now earlier than 20261129T000000Z"),
        ("InvalidSignatureException", "Signature not yet current: 20261130T000000Z is still later than now"),
        ("AccessDenied", "The difference between the request time and the server's time is too large."),
    ],
)
@pytest.mark.parametrize("operation", ["PutObject", "AssumeRoleWithWebIdentity"])
def test_the_clock_is_named_and_a_retry_can_help(code: str, message: str, operation: str) -> None:
    wrong = r"s3://b/k: .*the clock of this machine or of the storage is wrong: set it"
    with pytest.raises(Unavailable, match=wrong), s3_failures("s3://b/k"):
        raise response(code, message, operation)


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "AccessDenied", "ExpiredToken"])
def test_credentials_stay_credentials(code: str) -> None:
    with pytest.raises(PermissionDenied, match="check the credentials"), s3_failures("s3://b/k"):
        raise response(code, "No.")


@pytest.mark.parametrize(
    ("date", "kind"),
    [
        (formatdate(time.time() - 86400, usegmt=True), Unavailable),
        (formatdate(time.time() + 86400, usegmt=True), Unavailable),
        (formatdate(time.time(), usegmt=True), PermissionDenied),
        ("yesterday", PermissionDenied),
        ("Mon, 99 Foo 99999 00:00:00 GMT", PermissionDenied),
        ("", PermissionDenied),
    ],
    # Not of the dates: each process that collects the tests has others.
    ids=["yesterday's", "tomorrow's", "now", "a word", "no date", "nothing"],
)
def test_a_head_that_is_refused_tells_it_by_its_date_alone(date: str, kind: type[Exception]) -> None:
    error = response("403", "Forbidden", "HeadObject")
    error.response["ResponseMetadata"]["HTTPHeaders"] = {"date": date}
    with pytest.raises(kind), s3_failures("s3://b/k"):
        raise error
