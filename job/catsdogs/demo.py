"""The whole job against an S3 server of its own, on a drawn sample or on an archive that the user has."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catsdogs.config.settings import Settings
from catsdogs.data import sample
from catsdogs.pipeline import workflow as job
from catsdogs.results import manifest, names
from catsdogs.runtime.errors import ConfigError, Unavailable
from catsdogs.runtime.events import Demo
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from catsdogs.storage.store import Folder, Store, open_store

BUCKET = "catsdogs-demo"
SAMPLE_SETTINGS: dict[str, Any] = {
    "train_per_class": 100,
    "validation_per_class": 30,
    "test_per_class": 30,
    "epochs": 8,
    # The recipe's is made for ten times as many images.
    "learning_rate": 1e-3,
}
"""For the drawn sample, where the user does not say otherwise: about a minute on two cores."""
START_SECONDS = 30


def demo(
    archive: Path | None, directory: Path, options: Mapping[str, Any], log: Log, interruption: Interruption
) -> None:
    """Runs the job from a bucket to a bucket, and leaves a verified copy of the result in `directory`/runs.

    `options` are the fields of Settings other than the addresses. Without an archive a sample is drawn.
    Raises what the job raises.
    """
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
    # So that the next demo trains again, on the split that is there.
    shutil.rmtree(settings.run_directory)
    test = json.loads((result / "metrics.json").read_bytes())["test"]
    for name in ("model.keras", "history.png", "metrics.json", "report.html"):
        log.emit(Demo(text=f"{name:<13}{result / name}"))
    log.emit(Demo(text=f"test accuracy {100 * test['accuracy']:.1f} % on {test['images']} images"))
    if archive is None:
        log.emit(
            Demo(
                text="the animals are drawn: this accuracy means nothing;"
                " `make demo ARCHIVE=dogs-vs-cats.zip` trains on Kaggle's photographs",
            )
        )


def _drawn_sample(directory: Path, options: Mapping[str, Any], log: Log) -> Path:
    path = directory / "drawn-sample.zip"
    images = sum(options[f"{name}_per_class"] for name in ("train", "validation", "test"))
    log.emit(Demo(text=f"drawing a sample in Kaggle's layout: {images} cats, {images} dogs, none of them real"))
    with volume.failures(path):
        directory.mkdir(parents=True, exist_ok=True)
        sample.write_archive(path, images)
    return path


def _copy_verified(output: Store, directory: Path) -> None:
    """Copies a published run, as anyone would who uses it: what its manifest lists, each file verified."""
    copy = Folder(directory)
    for name in [*manifest.verify(output), names.MANIFEST]:
        volume.write(directory / name, b"".join(output.stream(name, 0, *output.stat(name))))
    manifest.verify(copy)


@contextlib.contextmanager
def _s3_server(log: Path) -> Iterator[dict[str, str]]:
    """moto's S3 server on a free loopback port, in a process of its own; yields the AWS settings that lead there.

    Raises ConfigError where moto is not installed, Unavailable if the server does not answer.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with volume.failures(log), log.open("wb") as file:
        # In a session of its own: Ctrl-C stops the job, which still needs the server to save its log.
        server = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while server.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        else:
            if "No module named" in log.read_text():
                raise ConfigError("the demo needs moto's S3 server: pip install 'catsdogs-train[demo]'")
            raise Unavailable(f"the demo's S3 server does not start; see {log}")
        yield {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            # A proxy of the user's would not find this machine's loopback.
            "NO_PROXY": "127.0.0.1",
        }
    finally:
        server.kill()
        server.wait()
