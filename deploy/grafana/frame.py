"""What our dashboards share: variables, links to one another, annotations."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard, heatmap, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from panels import DATASOURCE

Content = Sequence[dashboard.Row | timeseries.Panel | stat.Panel | heatmap.Panel]
TAG = "audience-stream"
_RUNBOOKS = "https://docs.example.com/audience-stream/runbook.md"


def framed(uid: str, title: str, description: str, content: Content, job: str | None = None) -> dashboard.Dashboard:
    """A whole dashboard. With `job`, its instances can be chosen one by one."""
    built = dashboard.Dashboard(title).uid(uid).description(description).tags([TAG]).readonly()
    built.timezone("browser").time("now-3h", "now").refresh("30s").tooltip(model.DashboardCursorSync.CROSSHAIR)
    built.variables(_variables(job)).annotations(_annotations())
    built.link(
        dashboard.DashboardLink("Audience stream")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )
    for number, part in enumerate(content, start=1):
        part.id(number)
        if isinstance(part, dashboard.Row):
            built.with_row(part)
        else:
            built.with_panel(part)
    return built


def _variables(
    job: str | None,
) -> list[Builder[model.VariableModel]]:
    datasource = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    runbooks = dashboard.ConstantVariable("runbooks").label("Where docs/runbook.md can be read").value(_RUNBOOKS)
    if job is None:
        return [datasource, runbooks]
    instance = (
        dashboard.QueryVariable("instance")
        .label("Instance")
        .datasource(DATASOURCE)
        .query(f'label_values(up{{job="{job}"}}, instance)')
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
    return [datasource, runbooks, instance]


def _annotations() -> list[Builder[model.AnnotationQuery]]:
    return [
        _annotation(
            "Deployments",
            "count by (version) (audience_build_info unless on (version) audience_build_info offset 10m)",
            "purple",
        ),
        _annotation("Starts", 'count by (job) (process_start_time_seconds{job=~"audience-.+"} > time() - 60)', "blue"),
        _annotation(
            "Rebalances", "sum by (event) (increase(audience_worker_rebalances_total[$__rate_interval])) > 0", "yellow"
        ),
        _annotation(
            "Alerts",
            'count by (alertname) (ALERTS{alertname=~"Audience.+",alertstate="firing",severity!="info"})',
            "red",
        ),
    ]


def _annotation(name: str, expr: str, colour: str) -> dashboard.AnnotationQuery:
    return dashboard.AnnotationQuery().name(name).datasource(DATASOURCE).expr(expr).icon_color(colour).enable(True)
