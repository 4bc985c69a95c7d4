"""The audiences: how many there are, how fresh the listing is, and how they are read."""

from frame import Content
from panels import About, Query, heat, lines, numbers, row

_FAIL = ("AudienceSegmentsFail",)
_SEGMENTS = "audience_api_segments_duration_seconds"


def content() -> Content:
    """What there is, whether it is right, and who reads it."""
    return [*_audiences(), *_listing(), *_reads()]


def _audiences() -> Content:
    return [
        row("What there is"),
        numbers(
            About(
                "Populated audiences",
                "Subscribed audiences with at least one member: what a marketer can pick.",
                "none",
            ),
            Query('max(audience_indexer_populated_audiences{job="audience-indexer"})', "populated"),
        ),
        numbers(
            About("Memberships", "Members of all subscribed audiences together.", "short"),
            Query('max(audience_indexer_memberships{job="audience-indexer"})', "memberships"),
        ),
        numbers(
            About(
                "Silent connectors",
                "Connectors that used to speak and are silent for too long, or use a revoked key.",
                "none",
                steps=(1, 2),
                alerts=("AudienceConnectorSilent",),
            ),
            Query('max(audience_connector_late{job="audience-indexer"})', "silent"),
        ),
        numbers(
            About(
                "Drifted audiences",
                "Audiences whose counts the last comparison had to repair.",
                "none",
                steps=(1, 10),
                alerts=("AudienceDrift",),
            ),
            Query('max(audience_indexer_drifted_audiences{job="audience-indexer"})', "drifted"),
        ),
        lines(
            About("Enters and exits", "Changes that really changed a set.", "cps"),
            Query(
                'sum by (outcome) (rate(audience_worker_changes_total{outcome=~"entered|left"}[$__rate_interval]))',
                "{{outcome}}",
            ),
        ),
        lines(
            About("Erasures", "Visitors erased.", "cps"),
            Query("sum(rate(audience_worker_erased_visitors_total[$__rate_interval]))", "erased"),
        ),
    ]


def _listing() -> Content:
    fresh = "audience_indexer_freshness_seconds"
    return [
        row("The listing"),
        heat(
            About(
                "Age of counts when they are listed", "From a worker's publishing to the listing that shows it.", "s"
            ),
            f"sum by (le) (increase({fresh}_bucket[$__rate_interval]))",
            width=8,
        ),
        lines(
            About(
                "Age of counts when they are listed",
                "Together with the time to apply a change, the promise is 1 s.",
                "s",
                steps=(0.5, 1),
            ),
            *(
                Query(f"histogram_quantile({q}, sum by (le) (rate({fresh}_bucket[$__rate_interval])))", f"p{q * 100:g}")
                for q in (0.5, 0.99)
            ),
            width=8,
        ),
        lines(
            About(
                "Indexer",
                "Records read by kind, audiences written, and whole listings written again: those after Redis went back.",
                "cps",
                alerts=("AudienceDrift",),
            ),
            Query("sum by (kind) (rate(audience_indexer_records_total[$__rate_interval]))", "{{kind}}"),
            Query("sum(rate(audience_indexer_listing_writes_total[$__rate_interval]))", "written"),
            Query("sum(rate(audience_indexer_rebuilds_total[$__rate_interval]))", "rebuilt"),
            width=8,
        ),
    ]


def _reads() -> Content:
    return [
        row("Who reads them"),
        lines(
            About(
                "Segments requests by status",
                "What the SDKs get. A 5xx means: member of nothing.",
                "reqps",
                alerts=_FAIL,
            ),
            Query(
                'sum by (status) (rate(audience_api_requests_total{route="segments"}[$__rate_interval]))', "{{status}}"
            ),
            stacked=True,
            width=8,
        ),
        lines(
            About("Time to answer segments", "SDKs wait for a second at most.", "s", steps=(0.05, 0.5), alerts=_FAIL),
            *(
                Query(
                    f"histogram_quantile({q}, sum by (le) (rate({_SEGMENTS}_bucket[$__rate_interval])))",
                    f"p{q * 100:g}",
                )
                for q in (0.5, 0.95, 0.99)
            ),
            width=8,
        ),
        lines(
            About("Control API by route", "Listing, connectors, keys, visitors.", "reqps"),
            Query(
                'sum by (route) (rate(audience_api_requests_total{route!="segments"}[$__rate_interval]))', "{{route}}"
            ),
            stacked=True,
            width=8,
        ),
    ]
