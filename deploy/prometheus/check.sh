#!/usr/bin/env bash
# Checks the configuration, and runs every alert's tests. Needs promtool and amtool.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v promtool >/dev/null || ! command -v amtool >/dev/null; then
  echo "promtool or amtool is missing; on Debian: apt-get install prometheus prometheus-alertmanager" >&2
  exit 1
fi
promtool check rules --lint=all --lint-fatal rules/*.yml
promtool check config prometheus.yml
# Debian builds Prometheus without Kubernetes, so all but the discovery itself is checked
rest=.without-discovery.yml
trap 'rm -f "$rest"' EXIT
sed '/kubernetes_sd_configs:/,/names: /d' kubernetes.yml > "$rest"
promtool check config "$rest"
amtool check-config ../alertmanager/alertmanager.yml
promtool test rules tests/*.yml
