"""What `make deploy-check` insists on; `make test` alone leaves out what needs more than Python."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
INSISTED = os.environ.get("AUDIENCE_DEPLOY_CHECK") == "1"

needs_registry = pytest.mark.skipif(not INSISTED, reason="installs packages for half a minute: make deploy-check")
