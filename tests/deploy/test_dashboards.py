"""The dashboards by the field's lint rules. `make dashboards-check` also runs every query on a real Prometheus."""

import itertools
import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.deploy.promql import DEPLOY, alerts, selectors, unknown

BOARDS = {
    file.stem: json.loads(file.read_text()) for file in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
UNITS = {"bytes", "cps", "none", "ops", "percentunit", "reqps", "s", "short"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
boards = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
panels = pytest.mark.parametrize("panel", PANELS)


def test_the_dashboards_are_what_the_generator_writes() -> None:
    command = [sys.executable, str(DEPLOY / "grafana" / "generate.py"), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert set(BOARDS) == {"audience-path", "audience-gateway", "audience-workers", "audience-audiences"}


@boards
def test_a_dashboard_fits_grafanas_own_types_and_nobody_edits_it_by_hand(board: dict[str, Any]) -> None:
    parsed = Dashboard.from_json(board)
    assert parsed.uid == board["uid"]
    assert parsed.editable is False
    assert board["graphTooltip"] == 1, "one crosshair through all panels"
    assert board["description"]


@boards
def test_a_dashboard_has_one_datasource_variable_and_reloads_the_others_with_the_time(board: dict[str, Any]) -> None:
    variables = board["templating"]["list"]
    assert [v["name"] for v in variables if v["type"] == "datasource"] == ["datasource"]
    assert all(v["refresh"] == 2 for v in variables if v["type"] == "query")
    for variable in variables:
        assert variable["type"] == "datasource" or f"${variable['name']}" in json.dumps(board).replace("${", "$")


@boards
def test_a_dashboard_shows_deployments_rebalances_and_alerts_and_leads_to_the_others(board: dict[str, Any]) -> None:
    annotations = {annotation["name"]: annotation for annotation in board["annotations"]["list"]}
    assert set(annotations) == {"Deployments", "Starts", "Rebalances", "Alerts"}
    for annotation in annotations.values():
        assert annotation["datasource"] == DATASOURCE
        assert unknown(annotation["expr"]) == []
    (link,) = board["links"]
    assert set(link["tags"]) <= set(board["tags"])


@boards
def test_no_panel_covers_another(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for one, other in itertools.combinations([panel["gridPos"] for panel in board["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])


@panels
def test_a_panel_says_what_it_shows_in_which_unit_and_when_that_is_bad(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith((".", "?"))
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    values = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
    assert values[0] is None
    assert values != [None, 80], "Grafana's default says nothing"
    assert values[1:] == sorted(set(values[1:]))


@panels
def test_every_query_of_a_panel_parses_and_names_what_exists(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    assert panel["datasource"] == DATASOURCE
    for target in panel["targets"]:
        assert target["datasource"] == DATASOURCE
        assert unknown(target["expr"]) == []
        assert target["legendFormat"]
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
            assert label in target["expr"], "a line is called by a label that the query keeps"


@panels
def test_a_counter_is_shown_as_a_rate_over_a_window_that_fits_the_scrapes(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        for call, window in re.findall(r"\b(rate|irate|increase)\([^[]*\[([^\]]+)\]", target["expr"]):
            assert window == "$__rate_interval", call
        counted = [s.name for s in selectors(target["expr"]) if re.search(r"_(total|bucket|count|sum)$", s.name)]
        assert len(counted) == len(
            re.findall(r"\b(?:rate|increase)\(", re.sub(r"rate\(audience_shard", "", target["expr"]))
        )


@panels
def test_a_panel_of_a_dashboard_with_instances_obeys_the_choice(panel: dict[str, Any]) -> None:
    (board,) = [board for board in BOARDS.values() if panel in board["panels"]]
    if not any(variable["name"] == "instance" for variable in board["templating"]["list"]):
        return
    for target in panel["targets"]:
        # what the indexer measures of shards has no worker's instance
        if not any(selector.name.startswith("audience_shard_") for selector in selectors(target["expr"])):
            assert 'instance=~"$instance"' in target["expr"]


def test_every_alert_is_led_to_by_a_panel_and_every_link_leads_somewhere() -> None:
    links = {link["url"] for board in BOARDS.values() for panel in board["panels"] for link in panel.get("links", [])}
    wanted = {f"${{runbooks}}#{alert['alert'].lower()}" for alert in alerts()}
    assert links == wanted


def test_grafana_finds_the_dashboards_and_a_prometheus_that_is_scraped_as_often_as_it_thinks() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    [provider] = yaml.safe_load((provisioning / "dashboards" / "audience-stream.yml").read_text())["providers"]
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    services = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
    assert source["url"].removeprefix("http://").split(":")[0] in services
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped
    assert not provider["allowUiUpdates"]
