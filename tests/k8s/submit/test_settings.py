"""The options that `submit` takes are the job's."""

import re
from typing import Any

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from catsdogs import cli as job_cli
from kubectl_catsdogs.base.errors import Usage
from kubectl_catsdogs.submit import settings
from kubectl_catsdogs.submit.job_options import job_options, settable
from tests.conftest import REPOSITORY


def options_of_job() -> dict[str, click.Parameter]:
    command = job_cli.catsdogs.commands["run"]
    return {option.opts[0].removeprefix("--").replace("-", "_"): option for option in command.params}


def test_the_options_are_the_job_s() -> None:
    assert job_options().keys() == options_of_job().keys()
    for name, kind in settable().items():
        assert kind.to_info_dict() == options_of_job()[name].type.to_info_dict(), name
        assert options_of_job()[name].envvar == f"CATSDOGS_{name.upper()}"


def test_every_other_option_names_an_existing_value_of_the_chart() -> None:
    values = yaml.safe_load((REPOSITORY / "helm/catsdogs-train/values.yaml").read_text())
    for option in job_options().values():
        if option.chart_value is not None:
            parent: Any = values
            for key in option.chart_value.split("."):
                assert key in parent, option.chart_value
                parent = parent[key]


def test_the_documentation_names_the_options_that_submit_may_change() -> None:
    text = (REPOSITORY / "docs/kubectl.md").read_text()
    documented = text[text.index("- `--set NAME=VALUE`") : text.index("Values are checked")]
    assert [name for name in re.findall(r"`(\w+)`", documented[documented.index(":") :])] == list(settable())


ODD = ["", "0", "1", "-1", "+3", " 4", "1.5", "1e-3", "nan", "inf", "1e400", "0x10", "90", "5m", "1h", "m", "a b", ".x"]
ODD += ["x" * 100, "x" * 101, "baseline", "Baseline", "10", "10.1", "1024", "1025", "4294967295", "4294967296", "é"]


@pytest.mark.parametrize("name", settable())
@given(text=st.one_of(st.sampled_from(ODD), st.text(max_size=12), st.integers().map(str), st.floats().map(repr)))
def test_a_value_is_taken_if_the_job_takes_it(name: str, text: str) -> None:
    try:
        meant = options_of_job()[name].type.convert(text, None, None)
    except click.BadParameter:
        meant = None
    if meant is None or meant != meant:
        with pytest.raises(Usage):
            settings.parse(name, text)
    else:
        assert settings.parse(name, text) == meant
        # And what the pod is told means the same.
        [[(_, told)]] = [list(one.items()) for one in settings.combinations([f"{name}={text.strip()}"], [])]
        assert options_of_job()[name].type.convert(told, None, None) == meant


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["epochs=0"], "epochs=0: 0 is not in the range x>=1"),
        (["epoch=5"], "do you mean epochs?"),
        (["colour=red"], "the job has no such option; options are run_id, recipe, epochs"),
        (["epochs"], "write NAME=VALUE"),
        (["epochs=5", "epochs=6"], "epochs is given twice"),
        (["batch-size=5", "batch_size=6"], "batch_size is given twice"),
        (["learning_rate=nan"], "learning_rate=nan: not a number"),
        (["recipe=birds"], "recipe=birds: 'birds' is not"),
        (["output=s3://mine"], "output is the same for all runs of the release; change it with helm: output"),
        (["log-format=json"], "log-format is the same for all runs of the release"),
    ],
)
def test_settings_that_are_none(given: list[str], says: str) -> None:
    with pytest.raises(Usage, match=re.escape(says)):
        settings.combinations(given, [])


def test_a_sweep_is_each_combination_once() -> None:
    assert settings.combinations(["seed=3"], ["learning-rate=1e-3, 0.0001,0.001", "epochs=2,4"]) == [
        {"seed": "3", "learning_rate": "0.001", "epochs": "2"},
        {"seed": "3", "learning_rate": "0.001", "epochs": "4"},
        {"seed": "3", "learning_rate": "0.0001", "epochs": "2"},
        {"seed": "3", "learning_rate": "0.0001", "epochs": "4"},
    ]
    with pytest.raises(Usage, match="epochs: give it to --set or to --sweep"):
        settings.combinations(["epochs=3"], ["epochs=4,5"])
    for fixed, sweeps in ([], ["run_id=a,b"]), (["run_id=a"], ["epochs=1,2"]):
        with pytest.raises(Usage, match="an id of its own"):
            settings.combinations(fixed, sweeps)
