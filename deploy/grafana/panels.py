"""The kinds of panels that our dashboards are made of. Each asks for a title, a description, a unit and queries."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import prometheus as prometheus_model

P = TypeVar("P", timeseries.Panel, stat.Panel, heatmap.Panel)
DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
_COLOURS = ("green", "orange", "red")


class Query(NamedTuple):
    """PromQL, and what its lines are called."""

    expr: str
    legend: str


class About(NamedTuple):
    """What a panel says about itself: `steps`, values from which it is orange, then red; `alerts`, its runbook links."""

    title: str
    description: str
    unit: str
    steps: tuple[float, ...] = ()
    alerts: tuple[str, ...] = ()
    down: bool = False
    """whether low values are the bad ones"""


def lines(about: About, *queries: Query, stacked: bool = False, width: int = 12, height: int = 8) -> timeseries.Panel:
    """Lines over time; stacked when their sum means something."""
    panel = timeseries.Panel().line_width(1).fill_opacity(60 if stacked else 8).axis_soft_min(0)
    panel.show_points(common_model.VisibilityMode.NEVER)
    panel.tooltip(
        common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI).sort(common_model.SortOrder.DESCENDING)
    )
    panel.legend(
        common.VizLegendOptions()
        .display_mode(common_model.LegendDisplayMode.LIST)
        .placement(common_model.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))
    if about.steps:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED))
    return _common(panel, about, queries, width, height)


def numbers(about: About, *queries: Query, width: int = 6, height: int = 6) -> stat.Panel:
    """One big number a series, as it is now."""
    panel = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.color_mode(common_model.BigValueColorMode.BACKGROUND if about.steps else common_model.BigValueColorMode.NONE)
    panel.graph_mode(common_model.BigValueGraphMode.AREA)
    return _common(panel, about, queries, width, height)


def heat(about: About, query: str, width: int = 12, height: int = 8) -> heatmap.Panel:
    """A histogram over time: darker where more events were."""
    panel = heatmap.Panel().calculate(False).cell_gap(1).show_legend()
    panel.color(
        heatmap.HeatmapColorOptions()
        .mode(heatmap_model.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .steps(64)
        .exponent(0.5)
    )
    panel.y_axis(heatmap.YAxisConfig().unit(about.unit))
    return _common(panel, about, [Query(query, "{{le}}")], width, height, prometheus_model.PromQueryFormat.HEATMAP)


def row(title: str) -> dashboard.Row:
    """A heading above the panels that follow."""
    return dashboard.Row(title)


def _common(
    panel: P,
    about: About,
    queries: Sequence[Query],
    width: int,
    height: int,
    shape: prometheus_model.PromQueryFormat = prometheus_model.PromQueryFormat.TIME_SERIES,
) -> P:
    panel.title(about.title).description(about.description).unit(about.unit).datasource(DATASOURCE)
    panel.span(width).height(height).thresholds(_thresholds(about))
    panel.links([_runbook(alert) for alert in about.alerts])
    for number, query in enumerate(queries):
        panel.with_target(
            prometheus.Dataquery()
            .expr(query.expr)
            .legend_format(query.legend)
            .format(shape)
            .ref_id(chr(ord("A") + number))
            .datasource(DATASOURCE)
            .range()
        )
    return panel


def _thresholds(about: About) -> dashboard.ThresholdsConfig:
    # without steps of its own a panel would get Grafana's red from 80 on, whatever its unit
    colours = _COLOURS[: len(about.steps) + 1] if about.steps else ("text",)
    if about.down:
        colours = tuple(reversed(_COLOURS[: len(about.steps) + 1]))
    steps = [model.Threshold(value=None, color=colours[0])]
    steps += [
        model.Threshold(value=value, color=colour) for value, colour in zip(about.steps, colours[1:], strict=True)
    ]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _runbook(alert: str) -> dashboard.DashboardLink:
    link = dashboard.DashboardLink(f"Runbook: {alert}").type(model.DashboardLinkType.LINK)
    return link.url(f"${{runbooks}}#{alert.lower()}").target_blank(True)
