"""What the two distributions install."""

import subprocess
import sys
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGES = {"catsdogs_train": Path("job/catsdogs"), "kubectl_catsdogs": Path("k8s/kubectl_catsdogs")}
SCRIPTS = {
    "catsdogs_train": {"catsdogs"},
    "kubectl_catsdogs": {"kubectl-catsdogs", "kubectl_complete-catsdogs"},
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.ZipFile]:
    """Distribution → its wheel, built from what git knows, as from a clone."""
    folder = tmp_path_factory.mktemp("wheels")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0")[:-1]:
        if name.startswith(("job/", "k8s/")) or "/" not in name:
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((REPOSITORY / name).read_bytes())
    for source in (folder / "source", folder / "source/k8s"):
        offline = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
        subprocess.run([sys.executable, "-m", "pip", "wheel", *offline, source], cwd=folder, check=True)
    return {path.name.partition("-")[0]: zipfile.ZipFile(path) for path in folder.glob("*.whl")}


def metadata(wheel: zipfile.ZipFile, name: str) -> bytes:
    [path] = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
    return wheel.read(path)


@pytest.mark.parametrize(
    ("distribution", "package"), [("catsdogs_train", "catsdogs"), ("kubectl_catsdogs", "kubectl_catsdogs")]
)
def test_a_wheel_has_one_top_level_name(wheels: dict[str, zipfile.ZipFile], distribution: str, package: str) -> None:
    names = {Path(name).parts[0] for name in wheels[distribution].namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {PACKAGES[distribution].name}
    entry_points = metadata(wheels[distribution], "entry_points.txt").decode()
    assert {line.split()[0] for line in entry_points.splitlines() if " = " in line} == SCRIPTS[distribution]


@pytest.mark.parametrize(
    ("distribution", "folder"), [("catsdogs_train", "job/catsdogs"), ("kubectl_catsdogs", "k8s/kubectl_catsdogs")]
)
def test_a_wheel_has_every_file_of_its_package(
    wheels: dict[str, zipfile.ZipFile], distribution: str, folder: str
) -> None:
    package = REPOSITORY / folder
    ours = {
        str(path.relative_to(package.parent))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in wheels[distribution].namelist() if ".dist-info/" not in name} == ours


def test_the_plugin_needs_three_packages(wheels: dict[str, zipfile.ZipFile]) -> None:
    needed = BytesParser().parsebytes(metadata(wheels["kubectl_catsdogs"], "METADATA")).get_all("Requires-Dist") or []
    assert {name.partition(">")[0].partition("<")[0] for name in needed} == {"click", "kubernetes", "urllib3"}


@pytest.mark.slow
def test_the_plugin_alone(tmp_path: Path) -> None:
    """In an environment of its own, without the job: under 200 MB, and it answers."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    program = tmp_path / "env/bin"
    subprocess.run([program / "pip", "install", "--quiet", REPOSITORY / "k8s"], check=True)
    size = sum(path.stat().st_size for path in (tmp_path / "env").rglob("*") if path.is_file())
    assert size < 200e6, f"{size / 1e6:.0f} MB"
    answer = subprocess.run([program / "kubectl-catsdogs", "--help"], capture_output=True, text=True, check=True)
    assert "follow" in answer.stdout
    assert subprocess.run([program / "python", "-c", "import catsdogs"], capture_output=True).returncode == 1
