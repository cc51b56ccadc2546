"""The command line: its help on terminals, its options and the table they are made from, the default run id."""

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import click
import pytest

from catsdogs.cli import catsdogs as command
from catsdogs.config import settings
from catsdogs.config.option import Group
from catsdogs.config.settings import Settings
from catsdogs.options import OPTIONS, WORKERS
from docs import generated
from tests.conftest import Catsdogs
from tests.terminal import COLOUR, ESCAPE, OnTerminal

COMMANDS = ["run", "prepare", "train", "publish", "plan", "demo", "predict", "runs", "verify"]


@pytest.fixture
def help_on(tmp_path: Path) -> Callable[..., str]:
    """Runs `catsdogs … --help` on a terminal, or into a file if the width is 0."""

    def run(*arguments: str, width: int, **env: str) -> str:
        terminal = OnTerminal("-m", "catsdogs", *arguments, "--help", width=width, env=env, directory=tmp_path)
        output = terminal.read().replace("\r\n", "\n")
        assert terminal.process.wait(10) == 0, output
        return output

    return run


@pytest.mark.parametrize("width", [80, 110])
def test_commands_in_the_order_of_work_each_on_a_line(width: int, help_on: Callable[..., str]) -> None:
    output = ESCAPE.sub("", help_on(width=width))
    listed = output.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == COMMANDS
    assert all(line.endswith((".", "?")) for line in listed)
    assert "…" not in output
    assert "..." not in listed


@pytest.mark.parametrize("width", [60, 80, 110])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_the_width(name: str, width: int, help_on: Callable[..., str]) -> None:
    output = ESCAPE.sub("", help_on(name, width=width))
    assert max(map(len, output.splitlines())) < width
    for parameter in command.commands[name].params:
        if isinstance(parameter, click.Option):
            [line] = re.findall(rf"^  {parameter.opts[0]}\b.*", output, re.MULTILINE)
            assert " ".join((parameter.help or "").split()[:2]) in line
            # Whole, however it is wrapped.
            assert "".join((parameter.help or "").split()) in "".join(output.split())


def test_options_in_groups(help_on: Callable[..., str]) -> None:
    output = ESCAPE.sub("", help_on("run", width=80))
    assert re.findall(r"^(\S.*):$", output, re.MULTILINE) == [*(group.value for group in Group), "Help"]
    recipe = output.partition("Recipe:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  --(\S+)", recipe, re.MULTILINE) == [
        "recipe", "epochs", "batch-size", "learning-rate", "image-size", "seed",
    ]  # fmt: skip
    assert "Passes over the training set." in recipe
    assert "[1 to 1024; default:" in recipe
    assert "CATSDOGS_RUN_ID" in output


def test_colours_only_on_a_terminal_that_wants_them(help_on: Callable[..., str], catsdogs: Catsdogs) -> None:
    assert COLOUR.search(help_on("run", width=80))
    assert not COLOUR.search(help_on("run", width=80, NO_COLOR="1"))
    assert "\x1b" not in help_on("run", width=80, TERM="dumb")
    assert "\x1b" not in catsdogs("run", "--help").stdout


def test_version(catsdogs: Catsdogs) -> None:
    assert re.fullmatch(r"catsdogs, version \S+\n", catsdogs("--version").stdout)


def test_each_setting_is_an_option_and_an_environment_variable() -> None:
    assert list(settings.OPTIONS) == [field.name for field in fields(Settings)]
    of_run = {option.name: option for option in command.commands["run"].params}
    assert of_run.keys() == OPTIONS.keys() == settings.OPTIONS.keys() | {"log_format"}
    for name, entry in OPTIONS.items():
        flag = (entry.name or name).replace("_", "-")
        assert of_run[name].opts == [f"--{flag}"]
        assert of_run[name].envvar == "CATSDOGS_" + flag.upper().replace("-", "_")
        assert of_run[name].required == entry.required


def test_commands_take_the_options_that_they_need() -> None:
    taken = {name: {option.name for option in command.commands[name].params} for name in COMMANDS}
    assert taken["run"] == taken["prepare"] == taken["train"] == taken["publish"]
    assert taken["run"] - taken["plan"] == set(WORKERS)
    assert taken["run"] - taken["demo"] == {*WORKERS, "output", "volume"}
    assert taken["predict"] == {"images", "model", "form", "addressing_style", "storage_timeout"}


PLACES = {"archive": "dogs-vs-cats.zip", "output": "runs"}


def parsed(*options: str) -> Settings:
    """Return the settings of `catsdogs run` with these options and PLACES."""
    places = [f"--{name}={value}" for name, value in PLACES.items()]
    context = command.commands["run"].make_context("run", [*places, *options])
    context.params.pop("log_format")
    return Settings.of(**context.params)


@pytest.mark.parametrize(
    ("options", "run_id"),
    [
        ([], "baseline-532fa92a"),
        (["--recipe=augmented"], "augmented-6d3a8ba9"),
        (["--recipe=xception"], "xception-f9095e91"),
        (["--recipe=compact"], "compact-cd05fa87"),
        (["--seed=7", "--epochs=3", "--learning-rate=1e-3"], "baseline-b2842078"),
        (
            [
                "--image-size=64", "--batch-size=5", "--train-per-class=14", "--validation-per-class=4",
                "--test-per-class=6",
            ],
            "baseline-a40e260a",
        ),
        # None of these decides the model.
        (
            [
                "--volume=elsewhere", "--precision=mixed_bfloat16", "--require-gpu", "--export=savedmodel",
                "--checkpoint-every=5m", "--checkpoint-to=bucket", "--addressing-style=path", "--storage-timeout=1h",
            ],
            "baseline-532fa92a",
        ),
    ],
)  # fmt: skip
def test_default_run_ids_stay_what_they_are(options: list[str], run_id: str) -> None:
    """A run that an earlier version began is found again by the same command."""
    assert parsed(*options).run_id == run_id


def test_model_settings_are_written_in_the_same_order() -> None:
    """run.json has them so."""
    assert json.dumps(Settings.of(**PLACES).model_settings()) == (
        '{"archive": "dogs-vs-cats.zip", "recipe_name": "baseline", "epochs": 30, "batch_size": 20,'
        ' "learning_rate": 0.0001, "image_size": 150, "seed": 0, "train_per_class": 1000,'
        ' "validation_per_class": 500, "test_per_class": 500}'
    )


def test_settings_without_options_have_the_defaults_of_the_command() -> None:
    made = Settings.of(**PLACES)
    assert made == parsed()
    assert (made.volume, made.export, made.storage_timeout, made.worker_index) == (Path("data"), (), 120.0, 0)
    assert made.worker_address is None


def test_a_setting_that_does_not_exist() -> None:
    with pytest.raises(TypeError, match="epoch"):
        Settings.of(**PLACES, epoch=3)


def test_generated_files_are_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "exit_codes.json"
    monkeypatch.setattr(generated, "FILES", {path: generated.exit_codes})
    assert generated.main(["--check"]) == 1
    assert generated.main([]) == 0
    assert generated.main(["--check"]) == 0
    path.write_text(path.read_text().replace("65", "66"))
    assert generated.main(["--check"]) == 1


def test_generated_options_say_who_may_set_them() -> None:
    entries = json.loads(generated.job_options())
    assert entries["epochs"] == {"type": "integer", "minimum": 1, "default": None}
    assert entries["learning_rate"] == {"type": "number", "exclusive_minimum": 0, "maximum": 10, "default": None}
    assert entries["require_gpu"] == {"type": "flag", "default": False, "chart_value": "gpu.count"}
    assert entries["checkpoint_every"] == {"type": "duration", "default": "60s"}
    assert entries["run_id"] == {"type": "name", "default": None}
    assert "recipe" in entries
    assert "recipe_name" not in entries
