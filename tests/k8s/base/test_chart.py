"""What the plugin reads from the Jobs that the chart writes."""

import pytest

from kubectl_catsdogs.base import chart
from tests.k8s.fakes import objects


def with_args(*args: str) -> objects.Object:
    job = objects.job(env={"CATSDOGS_EPOCHS": "3", "CATSDOGS_RUN_ID": "by-variable", "HOME": "/tmp"})
    job["spec"]["template"]["spec"]["containers"][0]["args"] = ["run", *args]
    return job


@pytest.mark.parametrize("args", [("--epochs", "5"), ("--epochs=5",), ("--seed=1", "--epochs", "5", "--xla")])
def test_arguments_win_over_the_environment(args: tuple[str, ...]) -> None:
    """As in the job itself, and so in `runs`, in the names of further runs, and in the place of the result."""
    assert chart.options(with_args())["epochs"] == "3"
    assert chart.options(with_args(*args))["epochs"] == "5"


def test_the_run_id_and_the_result_follow_from_the_options() -> None:
    assert chart.run_id(with_args()) == "by-variable"
    assert chart.run_id(with_args("--run-id", "by-argument")) == "by-argument"
    assert chart.result(with_args("--run-id=by-argument", "--output", "s3://b/")) == "s3://b/by-argument"
    assert chart.run_id(objects.job("named")) == "named"
    assert "home" not in chart.options(with_args())
