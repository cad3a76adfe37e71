"""The wheel away from the clone: what an adopting group installs; and the promises of docs/versions.md."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from support import required

from ncexp.cli import COMMANDS

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
#: Imported name → distribution, where they differ.
DISTRIBUTION = {"sklearn": "scikit-learn", "yaml": "pyyaml", "hydra": "hydra-core", "PIL": "pillow"}
#: The commands that another machine tries first, without a network.
COMMANDS_ELSEWHERE = (
    "ncexp epochs=1 tracking.enabled=false",
    "ncexp list optimizer",
    "ncexp report",
    "ncexp -m dataset=gaussian_mixture architecture=mlp epochs=1 seed=0,1 hydra/launcher=local "
    "hydra.launcher.runs_at_once=1 tracking.enabled=false",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    required("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and the packages of this one but not its ncexp."""
    venv = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (own,) = venv.glob("lib/python3*/site-packages")
    # Plain folders: the .pth files in them, an editable ncexp's among them, are not read.
    packages = [folder for folder in sys.path if folder.endswith("site-packages")]
    (own / "packages.pth").write_text("\n".join(packages))
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--ignore-installed", str(wheel)], check=True)
    return venv


def run(venv: Path, command: str, folder: Path) -> str:
    """What the command prints in `folder`, with nothing of the clone on its path."""
    environment = {**os.environ, "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_wheel_works_away_from_the_clone(elsewhere: Path, tmp_path: Path) -> None:
    shown = {command: run(elsewhere, command, tmp_path) for command in COMMANDS_ELSEWHERE}
    doctor = run(elsewhere, "ncexp doctor --no-job || true", tmp_path)
    found = dict(re.findall(r"^ok   here +(.*?)  +(.*)$", doctor, flags=re.MULTILINE))
    assert {"cpus", "gradients", "shared path", "dataset", "tracking", "versions"} <= set(found), doctor
    assert str(elsewhere) in found["versions"]  # the rest is SLURM's, which need not be here
    assert "sgd_digits" in shown["ncexp list optimizer"]
    assert (tmp_path / "report" / "report.html").is_file()
    home = Path(re.search(r"docs/ and launch/ are in\n(.*)", run(elsewhere, "ncexp --help", tmp_path))[1])  # type: ignore[index]
    assert home.is_relative_to(elsewhere)
    for page in (home / "docs").glob("*.md"):
        assert_links_lead_somewhere(page)
    for script in ("tracking_server", "dev_cluster", "ui_screenshots"):
        assert os.access(home / "launch" / script, os.X_OK), script
    printed = run(elsewhere, f"bash {home}/launch/tracking_server 2>&1 || true", tmp_path)
    assert "launch/tracking_server FOLDER" in printed


@pytest.mark.slow
def test_wheel_has_licence_and_version(wheel: Path) -> None:
    assert wheel.name == f"ncexp-{PROJECT['version']}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {"ncexp/conf/config.yaml", "ncexp/CITATION.cff", "ncexp/CHANGELOG.md"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests/", "outputs/"))]


def assert_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture of a page is a file; the part after # is a heading of it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        if not name.startswith(("http:", "https:")):
            linked = page.parent / name if name else page
            assert linked.exists(), f"{page.name}: {target}"
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), flags=re.MULTILINE) if anchor else []
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert not anchor or anchor in slugs, f"{page.name}: {target}"


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in REPOSITORY.glob("docs/*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    assert_links_lead_somewhere(REPOSITORY / page)


def test_version_is_one() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    heading = re.search(r"^## (\S+)$", (REPOSITORY / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert heading is not None
    assert PROJECT["version"] == version("ncexp") == str(citation["version"]) == heading[1]
    assert {"cff-version", "message", "title", "authors", "type", "license"} <= set(citation)


def test_every_dependency_has_a_reason() -> None:
    listed = (REPOSITORY / "pyproject.toml").read_text().partition("dependencies = [\n")[2].partition("\n]")[0]
    assert len(listed.splitlines()) == len(PROJECT["dependencies"])
    assert all(re.fullmatch(r' *"[^"]+", +# .{5,}', line) for line in listed.splitlines())


@pytest.mark.slow
def test_every_imported_library_is_a_dependency() -> None:
    extras = [one for name, extra in PROJECT["optional-dependencies"].items() if name != "dev" for one in extra]
    declared = {re.split(r"[<>=\[]", one)[0] for one in [*PROJECT["dependencies"], *extras]}
    nodes = [node for path in REPOSITORY.glob("ncexp/**/*.py") for node in ast.walk(ast.parse(path.read_text()))]
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    imported = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"ncexp"}
    assert {DISTRIBUTION.get(name, name) for name in imported} <= declared


def test_pythons_are_those_of_the_pages() -> None:
    minors = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert minors == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={minors[0]}"
    assert "Python 3.11, 3.12 and 3.13" in (REPOSITORY / "docs" / "versions.md").read_text()


def test_commands_elsewhere_are_commands() -> None:
    words = [command.split()[1] for command in COMMANDS_ELSEWHERE]
    assert all(word in COMMANDS or "=" in word or word == "-m" for word in words)
