#!/bin/sh
# The installation of the image, in two steps so that a change of the code keeps the layer of the dependencies.
# Run from the repository's root. The Dockerfile and tests/deploy/test_image.py both run this file.
#
#   deploy/image/install.sh dependencies TARGET   TARGET: a virtual environment with the locked packages
#   deploy/image/install.sh project TARGET        then the project itself, built by the locked backend
#   deploy/image/install.sh sbom TARGET FILE      then FILE: what TARGET holds, as CycloneDX JSON
#
# Example: deploy/image/install.sh dependencies /opt/audience-stream
set -eu

step=$1 target=$2
tools=$target.build # beside the target, and in no image

locked() { # ENVIRONMENT LOCK: wheels only, each checked against its hash
  "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir \
    --require-hashes --only-binary :all: -r "$2"
}

case $step in
dependencies)
  "${PYTHON:-python3}" -m venv "$target"
  locked "$target" deploy/image/requirements.lock
  "${PYTHON:-python3}" -m venv "$tools"
  locked "$tools" deploy/image/build.lock
  ;;
project)
  wheels=$(mktemp -d)
  "$tools/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --wheel-dir "$wheels" .
  "$target/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps "$wheels"/*.whl
  "$target/bin/python" -m pip check
  # a running service installs nothing, and can't write compiled files into a read-only root
  "$target/bin/python" -m pip uninstall --quiet --yes setuptools pip
  "$target/bin/python" -m compileall -q "$target/lib"
  rm -r "$wheels"
  ;;
sbom)
  "$tools/bin/cyclonedx-py" environment --pyproject pyproject.toml --output-reproducible --of JSON -o "$3" \
    "$target/bin/python"
  ;;
*)
  sed -n '2,9p' "$0" >&2
  exit 2
  ;;
esac
