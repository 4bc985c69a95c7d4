"""What is locked, under which licences, and the pages that are written out of code."""

import subprocess
import sys
import tomllib
from importlib.metadata import metadata

import pytest
from packaging.requirements import Requirement

from audience_stream.configuration_page import SECTIONS, page
from tests.deploy.conftest import DEPLOY, ROOT
from tests.deploy.test_image import locked

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# as SPDX expressions or as classifiers: permissive, or copyleft of single files that are not changed here (MPL)
ALLOWED = ("Apache", "BSD", "ISC", "MIT", "PSF", "Mozilla Public License 2.0", "MPL-2.0")


def licences() -> str:
    script = DEPLOY / "image" / "licences.py"
    return subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout


def test_the_pages_on_settings_and_licences_are_those_of_the_code() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == page(), "run `make docs`"
    assert (ROOT / "docs" / "licences.md").read_text() == licences(), "run `make docs`"


def test_every_setting_is_described_and_no_secret_has_a_default() -> None:
    for kind in SECTIONS.values():
        for name, field in kind.model_fields.items():
            assert field.description, name
    for line in page().splitlines():
        if "🔒" in line and "`AUDIENCE_" in line and "REDIS_URL" not in line:
            assert line.split("|")[2].strip() == "", line


def test_what_the_image_ships_is_under_a_licence_that_allows_it() -> None:
    rows = [line.split(" | ") for line in licences().splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 25
    for name, _, licence in rows:
        assert any(known in licence for known in ALLOWED), (name, licence)
        assert "GPL" not in licence, (name, licence)


@pytest.mark.parametrize(
    ("lock", "extras"),
    [("requirements.lock", ["embedded", "tracing", "test", "check"]), ("deploy/image/requirements.lock", ["tracing"])],
)
def test_a_lock_holds_a_version_of_everything_that_is_asked_for(lock: str, extras: list[str]) -> None:
    versions = locked(ROOT / lock)
    asked = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    for requirement in map(Requirement, asked):
        assert requirement.name in versions, "run `make lock`"
        assert requirement.specifier.contains(versions[requirement.name]), "run `make lock`"


def test_the_version_is_said_once() -> None:
    assert metadata("audience-stream")["Version"] == PROJECT["version"]
    production = (DEPLOY / "kubernetes" / "overlays" / "production" / "kustomization.yaml").read_text()
    assert f"newTag: {PROJECT['version']}" in production
