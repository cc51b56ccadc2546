"""What becomes of an OSError that no package has turned into one of ours."""

import errno
import os
from unittest.mock import Mock

import pytest

from catsdogs import cli
from catsdogs.runtime.signals import Interruption

OF_THE_VOLUME = (
    "EIO", "EREMOTEIO", "EUCLEAN", "ESTALE", "ENODEV", "ENXIO", "ENOTCONN", "ENOSPC", "EDQUOT", "EROFS", "EACCES",
    "EPERM", "EMFILE", "ENFILE",
)  # fmt: skip


@pytest.mark.parametrize("name", OF_THE_VOLUME)
def test_a_failing_volume_is_never_a_bug(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number = getattr(errno, name)
    lines: list[str] = []
    monkeypatch.setattr(cli, "complain", lines.append)
    error = OSError(number, os.strerror(number), "volume/work/r/model.keras")
    monkeypatch.setattr(cli.catsdogs, "main", Mock(side_effect=error))
    assert cli._exit_code(Interruption()) == 74
    [line] = lines
    assert line.startswith(f"volume/work/r/model.keras: {os.strerror(number)}: ")


def test_another_oserror_is_a_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli.catsdogs, "main", Mock(side_effect=OSError(errno.EINVAL, "invalid")))
    assert cli._exit_code(Interruption()) == 1
    assert "this is a bug" in capsys.readouterr().err
