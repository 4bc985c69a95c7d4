"""The gateway: requests, their time, what they carried, and what each process uses."""

from frame import Content
from panels import About, Query, heat, lines, row

_I = 'instance=~"$instance"'
_REFUSES, _SLOW = ("AudienceGatewayRefuses",), ("AudienceGatewaySlow",)


def _quantile(q: float, metric: str) -> Query:
    return Query(
        f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{{{_I}}}[$__rate_interval])))", f"p{q * 100:g}"
    )


def _rate(metric: str, by: str = "") -> str:
    return f"sum {f'by ({by}) ' if by else ''}(rate({metric}{{{_I}}}[$__rate_interval]))"


def content() -> Content:
    """Requests first, the process last."""
    return [*_requests(), *_time(), *_content(), *_process()]


def _requests() -> Content:
    return [
        row("Requests"),
        lines(
            About("By message type", "Firehose messages a second.", "reqps"),
            Query(_rate("audience_gateway_requests_total", "type"), "{{type}}"),
            stacked=True,
            width=8,
        ),
        lines(
            About(
                "By status",
                "200 is success, 503 is sent again by mParticle, any other is lost for good.",
                "reqps",
                alerts=_REFUSES,
            ),
            Query(_rate("audience_gateway_requests_total", "status"), "{{status}}"),
            stacked=True,
            width=8,
        ),
        lines(
            About(
                "Refused, by reason",
                "503: what was away. Throttled: 429 to an account over its quota.",
                "reqps",
                alerts=_REFUSES,
            ),
            Query(_rate("audience_gateway_unavailable_total", "reason"), "{{reason}}"),
            Query(_rate("audience_gateway_throttled_requests_total"), "throttled"),
            stacked=True,
            width=8,
        ),
    ]


def _time() -> Content:
    request, ack = "audience_gateway_request_duration_seconds", "audience_gateway_ack_duration_seconds"
    within = f"{_rate_of_bucket(request)} / {_rate(f'{request}_count')}"
    return [
        row("Time"),
        heat(
            About("Time to answer", "From the end of a request's body to its answer.", "s", alerts=_SLOW),
            f"sum by (le) (increase({request}_bucket{{{_I}}}[$__rate_interval]))",
        ),
        lines(
            About(
                "Time to answer",
                "mParticle allows 100 ms; we promise a p99 of 25 ms.",
                "s",
                steps=(0.025, 0.1),
                alerts=_SLOW,
            ),
            *(_quantile(q, request) for q in (0.5, 0.95, 0.99)),
        ),
        lines(
            About(
                "Waiting for Kafka",
                "Until all in-sync replicas have acknowledged; part of the time to answer.",
                "s",
                steps=(0.025, 0.08),
                alerts=_SLOW,
            ),
            *(_quantile(q, ack) for q in (0.5, 0.95, 0.99)),
            width=8,
        ),
        lines(
            About(
                "Share of the time that is Kafka's",
                "Near 1: only Kafka can make it faster. Near 0: the gateway's own processor is the bound.",
                "percentunit",
                alerts=_SLOW,
            ),
            Query(f"{_rate(f'{ack}_sum')} / {_rate(f'{request}_sum')}", "waiting for Kafka"),
            width=8,
        ),
        lines(
            About(
                "Answered within 100 ms",
                "Share of the requests; the objective is 99.9 %.",
                "percentunit",
                steps=(0.99, 0.999),
                alerts=_SLOW,
                down=True,
            ),
            Query(within, "within 100 ms"),
            width=8,
        ),
    ]


def _rate_of_bucket(metric: str) -> str:
    return f'sum(rate({metric}_bucket{{{_I},le="0.1"}}[$__rate_interval]))'


def _content() -> Content:
    return [
        row("What the requests carry"),
        lines(
            About("Profiles", "Profiles of accepted membership messages.", "cps"),
            Query(_rate("audience_gateway_profiles_total"), "profiles"),
            width=6,
        ),
        lines(
            About("Changes", "Membership changes that Kafka has acknowledged.", "cps"),
            Query(_rate("audience_gateway_changes_total", "action"), "{{action}}"),
            stacked=True,
            width=6,
        ),
        lines(
            About("Skipped", "What changes no membership, by reason.", "cps"),
            Query(_rate("audience_gateway_skipped_changes_total", "reason"), "{{reason}}"),
            stacked=True,
            width=6,
        ),
        lines(
            About(
                "Dead letters",
                "Profiles and erasures that were put aside, by reason.",
                "cps",
                alerts=("AudienceDeadLetters", "AudienceDeadLettersMany"),
            ),
            Query(
                f'sum by (reason) (rate(audience_dead_letters_total{{job="audience-gateway",{_I}}}[$__rate_interval]))',
                "{{reason}}",
            ),
            stacked=True,
            width=6,
        ),
    ]


def _process() -> Content:
    job = f'job="audience-gateway",{_I}'
    return [
        row("Each process"),
        lines(
            About(
                "Processor", "Share of one core; a process can use one.", "percentunit", steps=(0.7, 0.9), alerts=_SLOW
            ),
            Query(f"rate(process_cpu_seconds_total{{{job}}}[$__rate_interval])", "{{instance}} {{process}}"),
            width=6,
        ),
        lines(
            About("Memory", "Resident memory.", "bytes", alerts=("AudienceGatewayProcessDies",)),
            Query(f"process_resident_memory_bytes{{{job}}}", "{{instance}} {{process}}"),
            width=6,
        ),
        lines(
            About(
                "Spool",
                "Records on a gateway's disk, because Kafka does not answer; 0 when there is no spool.",
                "none",
                steps=(1, 100_000),
                alerts=("AudienceSpoolInUse",),
            ),
            Query(f"sum by (instance) (audience_gateway_spool_records{{{job}}})", "{{instance}}"),
            width=6,
        ),
        lines(
            About(
                "Notes for the console that were dropped",
                "Requests that the console does not show, because Redis did not take the note.",
                "cps",
            ),
            Query(_rate("audience_gateway_activity_dropped_total"), "dropped"),
            width=6,
        ),
    ]
