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

# who hears of what
route() {
  local wanted=$1 got
  shift
  got=$(amtool config routes test --config.file=../alertmanager/alertmanager.yml "$@" 2>/dev/null)
  if [ "$got" != "$wanted" ]; then
    echo "$* goes to $got instead of $wanted" >&2
    exit 1
  fi
}
route night alertname=AudienceLagSteep severity=critical
route day alertname=AudienceDrift severity=warning
route dead-mans-switch alertname=AudienceWatchdog severity=info
route nobody alertname=Anything severity=info
echo "the routes lead where they should"
