"""The demo: the whole job against a local S3 server, on a drawn sample or the user's archive."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catsdogs.config.settings import Settings
from catsdogs.data import sample
from catsdogs.pipeline import records
from catsdogs.pipeline import workflow as job
from catsdogs.results import completion, manifest, names
from catsdogs.results.completion import complete_artifacts
from catsdogs.runtime.errors import ConfigError, Unavailable
from catsdogs.runtime.events import Demo
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from catsdogs.storage.address import open_store
from catsdogs.storage.folder import Folder
from catsdogs.storage.store import Store, read

BUCKET = "catsdogs-demo"
SAMPLE_SETTINGS: dict[str, Any] = {
    "train_per_class": 100,
    "validation_per_class": 30,
    "test_per_class": 30,
    "epochs": 8,
    # The recipe's is for ten times as many images.
    "learning_rate": 1e-3,
}
"""Defaults for the drawn sample: about a minute on two cores."""
START_SECONDS = 30


def demo(
    archive: Path | None, directory: Path, options: Mapping[str, Any], log: Log, interruption: Interruption
) -> None:
    """Run the job from bucket to bucket, and leave a verified copy of the result in `directory`/runs.

    `options` are the fields of Settings other than the addresses. Without an archive, a sample is drawn.
    Raises what the job raises.
    """
    with volume.failures(directory):
        directory.mkdir(parents=True, exist_ok=True)
    source = archive or _drawn_sample(directory, options, log)
    with _s3_server(directory / "s3.log") as environment:
        log.emit(Demo(text=f"S3 server ready at {environment['AWS_ENDPOINT_URL_S3']}, bucket {BUCKET}"))
        os.environ.update(environment)
        bucket = open_store(f"s3://{BUCKET}")
        bucket.client.create_bucket(Bucket=BUCKET)  # type: ignore[attr-defined]
        bucket.put(f"datasets/{source.name}", source)
        settings = Settings.of(
            archive=bucket.uri(f"datasets/{source.name}"), output=bucket.uri("runs"), volume=directory / "volume",
            **options,
        )  # fmt: skip
        job.run(settings, log, interruption)
        result = directory / "runs" / settings.run_id
        _copy_verified(open_store(settings.result), result)
    _forget(settings)
    test = json.loads((result / "metrics.json").read_bytes())["test"]
    for name in ("model.keras", "history.png", "metrics.json", "report.html"):
        log.emit(Demo(text=f"{name:<13}{result / name}"))
    log.emit(Demo(text=f"test accuracy {100 * test['accuracy']:.1f} % on {test['images']} images"))
    if archive is None:
        log.emit(
            Demo(
                text="the animals are drawn: this accuracy means nothing;"
                " `catsdogs demo --archive dogs-vs-cats.zip` trains on Kaggle's photographs",
            )
        )


def _forget(settings: Settings) -> None:
    """Remove what the run recorded on the volume, so that the next demo trains again, on the same split."""
    made = [settings.artifacts / name for name in (*(complete_artifacts(settings.artifacts) or ()), completion.RECORD)]
    made += [settings.run_directory / name for name in (names.LOG, records.PREPARED, records.SETTINGS)]
    with volume.lock(settings.run_directory), volume.failures(settings.run_directory):
        for path in made:
            volume.remove(path)


def _drawn_sample(directory: Path, options: Mapping[str, Any], log: Log) -> Path:
    path = directory / "drawn-sample.zip"
    images = sum(options[f"{name}_per_class"] for name in ("train", "validation", "test"))
    log.emit(Demo(text=f"drawing a sample in Kaggle's layout: {images} cats, {images} dogs, none of them real"))
    with volume.failures(path):
        sample.write_archive(path, images)
    return path


def _copy_verified(output: Store, directory: Path) -> None:
    """Copy a published run as its users do: the files that its manifest lists, each verified."""
    copy = Folder(directory)
    for name in [*manifest.verify(output), names.MANIFEST]:
        volume.write(directory / name, read(output, name))
    manifest.verify(copy)


@contextlib.contextmanager
def _s3_server(log: Path) -> Iterator[dict[str, str]]:
    """Run moto's S3 server on a free loopback port, in a process of its own; yield the AWS settings for it.

    Raises ConfigError if moto is not installed, Unavailable if the server does not answer.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with volume.failures(log), log.open("wb") as file:
        # In a session of its own: after Ctrl-C, the job still needs the server to save its log.
        server = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while server.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        else:
            if "No module named" in log.read_text():
                raise ConfigError(
                    "the demo needs moto's S3 server; run pip install '.[demo]' in a clone of catsdogs-train"
                )
            raise Unavailable(f"the demo's S3 server does not start; see {log}")
        yield {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            # The user's proxy cannot reach this machine's loopback.
            "NO_PROXY": "127.0.0.1",
        }
    finally:
        server.kill()
        server.wait()
