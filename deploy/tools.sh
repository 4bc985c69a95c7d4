#!/usr/bin/env bash
# Builds what `make deploy-check` needs and this machine lacks, from Go modules of pinned versions, into a cache.
# Prints the folder. Needs Go for that; whoever has kubectl (or kustomize) and Docker Compose needs nothing.
set -euo pipefail

tools=${XDG_CACHE_HOME:-$HOME/.cache}/audience-stream/tools
mkdir -p "$tools"
export GOBIN=$tools PATH=$tools:$PATH

if ! command -v kustomize >/dev/null && ! command -v kubectl >/dev/null; then
  echo "building kustomize" >&2
  go install sigs.k8s.io/kustomize/kustomize/v5@v5.8.1 >&2
fi

if ! command -v docker-compose >/dev/null && ! docker compose version >/dev/null 2>&1; then
  echo "building docker-compose (two minutes, once)" >&2
  # its module has exclusions, with which Go installs it only as a tool of another module
  module=$(mktemp -d)
  trap 'rm -rf "$module"' EXIT
  (
    cd "$module"
    go mod init tools 2>/dev/null
    go get -tool github.com/docker/compose/v2/cmd@v2.40.3 2>/dev/null
    go build -o "$tools/docker-compose" github.com/docker/compose/v2/cmd
  ) >&2
fi

echo "$tools"
