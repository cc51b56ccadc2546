"""A scanner's findings in what the chart makes, all of them explained."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.helm import binaries
from tests.helm.chart import FILES, Helm

EXPLAINED = {
    "CKV_K8S_8": "the test pod serves nothing that a liveness probe could ask",
    "CKV_K8S_9": "nor a readiness probe",
    "CKV_K8S_15": "pullPolicy is a value; its default spares a pull of gigabytes, and a tag is never moved here",
    "CKV_K8S_35": "the AWS settings take credentials from variables; they come from a Secret and nothing logs them",
    "CKV_K8S_38": "one file of the matrix asks for the service account's token; the default is without",
    "CKV_K8S_43": "a digest is a value; only who pushed the image knows it",
    "CKV2_K8S_6": "the NetworkPolicy is a value, as not every cluster's DNS and storage can be told by addresses",
}
"""Check → why it is not followed."""


@pytest.mark.slow
def test_nothing_is_left_unexplained(helm4: Helm, tmp_path: Path) -> None:
    for name, path in FILES.items():
        # A release each, as a NetworkPolicy would otherwise count for the pods of all.
        (tmp_path / f"{name}.yaml").write_text(helm4.template(f"--values={path}", release=name).text)
    process = subprocess.run(
        [*binaries.checkov(), "--framework=kubernetes", f"--directory={tmp_path}", "--skip-download", "--output=json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    report = json.loads(process.stdout)
    failed = {
        (check["check_id"], check["file_path"], check["resource"]) for check in report["results"]["failed_checks"]
    }
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 50 * len(FILES)
    assert {check for check, _, _ in failed} == EXPLAINED.keys(), sorted(failed)
