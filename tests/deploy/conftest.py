"""What `make deploy-check` insists on; `make test` alone leaves out what needs more than Python."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
INSISTED = os.environ.get("AUDIENCE_DEPLOY_CHECK") == "1"

needs_registry = pytest.mark.skipif(not INSISTED, reason="installs packages for half a minute: make deploy-check")


def kustomize() -> list[str]:
    """The command that builds an overlay."""
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if found := shutil.which(command[0]):
            return [found, *command[1:]]
    if INSISTED:
        pytest.fail("neither kustomize nor kubectl is here: install Go, then make deploy-check")
    pytest.skip("neither kustomize nor kubectl is here: make deploy-check")
