"""Reads what helm has installed, for releases whose Job is gone. Pure."""

import base64
import gzip
import io
import json
import re
import zlib

import yaml

from kubectl_catsdogs.base.objects import Object, dig
from kubectl_catsdogs.base.text import whole_number

MAX_BYTES = 16_000_000
"""Read of an unpacked release, whose Secret has at most 1 MB."""
SOURCE = "# Source: catsdogs-train/templates/job.yaml"
"""Helm's comment above the Job of a revision's own values."""


def job_of(secrets: list[Object]) -> Object | None:
    """Return the Job of a release's newest revision, as the chart wrote it. `secrets` are helm's, one per revision.

    None if they contain none, or cannot be read: helm may change how it stores releases.
    """
    newest = max(secrets, key=_revision, default=None)
    if newest is None:
        return None
    try:
        packed = base64.b64decode(base64.b64decode(newest["data"]["release"]))
        with gzip.open(io.BytesIO(packed)) as unpacked:
            manifest = json.loads(unpacked.read(MAX_BYTES))["manifest"]
        # The manifest also contains runs of earlier revisions, from another template.
        jobs = [part for part in re.split(r"^---$", manifest, flags=re.MULTILINE) if SOURCE in part.split("\n")[:3]]
        return next((item for part in jobs if (item := yaml.safe_load(part))), None)
    except (KeyError, TypeError, ValueError, OSError, EOFError, RecursionError, zlib.error, yaml.YAMLError):
        return None


def _revision(secret: Object) -> int:
    return whole_number(str(dig(secret, "metadata", "labels", "version", default=""))) or 0
