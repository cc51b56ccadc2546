"""What helm has installed, for releases whose Job is gone."""

import base64
import gzip
import io
import json
import re

import yaml

from kubectl_catsdogs.base.contract import Object, dig

MOST_BYTES = 16_000_000
"""A release is at most 1 MB in its Secret; this much of it unpacked is read."""
SOURCE = "# Source: catsdogs-train/templates/job.yaml"
"""Helm's comment above the Job of a revision's own values."""


def job_of(secrets: list[Object]) -> Object | None:
    """The Job of a release's newest revision, as the chart wrote it. `secrets` are helm's own, one a revision.

    None if there is none among them, or what there is cannot be read: helm may change how it keeps releases.
    """
    newest = max(secrets, key=_revision, default=None)
    if newest is None:
        return None
    try:
        packed = base64.b64decode(base64.b64decode(newest["data"]["release"]))
        with gzip.open(io.BytesIO(packed)) as unpacked:
            manifest = json.loads(unpacked.read(MOST_BYTES))["manifest"]
        # The runs of earlier revisions are in it as well, from another template.
        ours = [part for part in re.split(r"^---$", manifest, flags=re.MULTILINE) if SOURCE in part.split("\n")[:3]]
        return next((item for part in ours if (item := yaml.safe_load(part))), None)
    except (KeyError, TypeError, ValueError, OSError, EOFError, yaml.YAMLError):
        return None


def _revision(secret: Object) -> int:
    version = str(dig(secret, "metadata", "labels", "version", default="0"))
    return int(version) if version.isdecimal() else 0
