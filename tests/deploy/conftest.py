"""What `make deploy-check` insists on; `make test` alone leaves out what needs more than Python."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
INSISTED = os.environ.get("AUDIENCE_DEPLOY_CHECK") == "1"

needs_registry = pytest.mark.skipif(not INSISTED, reason="installs packages for half a minute: make deploy-check")


def missing(tool: str) -> NoReturn:
    """Leave a test out because a tool is not here; `make deploy-check` insists on all, and builds what it can."""
    if INSISTED:
        pytest.fail(f"{tool} is not here")
    pytest.skip(f"{tool} is not here: make deploy-check")


def kustomize() -> list[str]:
    """The command that builds an overlay."""
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if found := shutil.which(command[0]):
            return [found, *command[1:]]
    return missing("kustomize or kubectl")
