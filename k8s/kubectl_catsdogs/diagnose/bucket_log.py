"""The end of a run's log in the bucket, for runs whose pods are gone. Reads with the user's own credentials only."""

import os
from urllib.parse import urlsplit

from kubectl_catsdogs.base.text import shell_command

TAIL_BYTES = 64_000


class NotRead(Exception):
    """Its text tells the user how to read the log."""


def last_lines(result: str, environment: dict[str, str]) -> list[str]:
    """Return the last lines of the log. Raises NotRead.

    `result` is the address of the run's artifacts. Endpoint and region come from the run's `environment`, unless the
    user's own settings have them.
    """
    address = f"{result.rstrip('/')}/log.jsonl"
    if not result.startswith("s3://"):
        raise NotRead(f"the run's log is {address}")
    command = read_command(address, environment)
    # Here, as boto3 is optional.
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise NotRead(f"boto3 is not installed here; this shows how it ended: {command}") from None
    place = urlsplit(address)
    config = Config(
        connect_timeout=5,
        read_timeout=10,
        retries={"mode": "standard", "total_max_attempts": 2},
        s3={"addressing_style": "path" if environment.get("CATSDOGS_ADDRESSING_STYLE") == "path" else "auto"},
        response_checksum_validation="when_required",
    )
    try:
        session = boto3.session.Session()
        if session.get_credentials() is None:
            raise NotRead(f"there are no credentials for the bucket here; where there are: {command}")
        region = session.region_name or environment.get("AWS_REGION")
        client = session.client("s3", endpoint_url=_endpoint(environment), region_name=region, config=config)
        key = place.path.removeprefix("/")
        body = client.get_object(Bucket=place.netloc, Key=key, Range=f"bytes=-{TAIL_BYTES}")["Body"].read()
    except (BotoCoreError, ClientError, ValueError) as error:
        raise NotRead(f"{address} cannot be read from here ({error}); where it can: {command}") from None
    return [line for line in body.decode(errors="backslashreplace").splitlines() if line.strip()]


def read_command(address: str, environment: dict[str, str]) -> str:
    """Return a command that shows the end of the log."""
    endpoint = environment.get("AWS_ENDPOINT_URL_S3")
    words = ["aws", "s3", "cp", *(["--endpoint-url", endpoint] if endpoint else []), address, "-"]
    return f"{shell_command(*words)} | tail"


def _endpoint(environment: dict[str, str]) -> str | None:
    own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return own or environment.get("AWS_ENDPOINT_URL_S3")
