"""The workers: throughput, lag, and where their time goes."""

from frame import Content
from panels import About, Query, heat, lines, row

_I = 'instance=~"$instance"'
_LAG, _STALE = ("AudienceLagSteep", "AudienceLagLong", "AudienceShardStuck"), ("AudienceMembershipsStale",)
_STEP = "audience_worker_step_duration_seconds"


def content() -> Content:
    """Throughput and lag first, then why."""
    return [*_throughput(), *_lag(), *_seconds(), *_group(), *_process()]


def _throughput() -> Content:
    return [
        row("What is applied"),
        lines(
            About("Records", "Kafka records applied a second; a record is a profile.", "cps"),
            Query(
                f"sum by (instance) (rate(audience_worker_records_total{{{_I}}}[$__rate_interval])) > 0", "{{instance}}"
            ),
            stacked=True,
            width=8,
        ),
        lines(
            About(
                "Changes by outcome",
                "`unchanged` repeats what was known, `stale` is older than what is stored, `suppressed` is of an erased visitor.",
                "cps",
            ),
            Query(f"sum by (outcome) (rate(audience_worker_changes_total{{{_I}}}[$__rate_interval]))", "{{outcome}}"),
            stacked=True,
            width=8,
        ),
        lines(
            About(
                "Records of a batch",
                "Mean. Large batches are cheaper for each record; they come when there is lag.",
                "none",
            ),
            Query(
                f'sum(rate(audience_worker_records_total{{{_I}}}[$__rate_interval])) / sum(rate({_STEP}_count{{step="apply",{_I}}}[$__rate_interval]))',
                "records",
            ),
            width=8,
        ),
    ]


def _lag() -> Content:
    return [
        row("How far behind"),
        lines(
            About(
                "Lag in time, by shard",
                "Age of the oldest change that is not applied; 0 when all are. Measured by the indexer.",
                "s",
                steps=(10, 60),
                alerts=_LAG,
            ),
            Query("max by (shard) (audience_shard_lag_seconds)", "shard {{shard}}"),
            width=8,
        ),
        lines(
            About("Lag in records, by shard", "Records in Kafka that are not applied.", "none", alerts=_LAG),
            Query("max by (shard) (audience_shard_lag_records)", "shard {{shard}}"),
            stacked=True,
            width=8,
        ),
        lines(
            About(
                "Time until caught up",
                "Lag in records by the records applied a second, nothing new counted; and each worker's own estimate for its shards, 0 unless it has much to catch up with.",
                "s",
                alerts=_LAG,
            ),
            Query(
                "sum(max by (shard) (audience_shard_lag_records)) / sum(rate(audience_worker_records_total[$__rate_interval]))",
                "until caught up",
            ),
            Query(f"audience_worker_left_seconds{{{_I}}} < Inf", "{{instance}}, its own"),
            width=8,
        ),
        heat(
            About(
                "Age of changes when they are applied",
                "The oldest change of each batch, from its receipt at the gateway.",
                "s",
                alerts=_STALE,
            ),
            f"sum by (le) (increase(audience_worker_freshness_seconds_bucket{{{_I}}}[$__rate_interval]))",
        ),
        lines(
            About("Age of changes when they are applied", "The promise is 1 s.", "s", steps=(1, 5), alerts=_STALE),
            *(
                Query(
                    f"histogram_quantile({q}, sum by (le) (rate(audience_worker_freshness_seconds_bucket{{{_I}}}[$__rate_interval])))",
                    f"p{q * 100:g}",
                )
                for q in (0.5, 0.95, 0.99)
            ),
        ),
    ]


def _seconds() -> Content:
    return [
        row("Where each second goes"),
        lines(
            About(
                "Where a worker's second goes",
                "Seconds a second; one worker has one. `read` is mostly waiting for records.",
                "s",
            ),
            Query(f"sum by (step) (rate({_STEP}_sum{{{_I}}}[$__rate_interval]))", "{{step}}"),
            stacked=True,
        ),
        lines(
            About(
                "Steps, p99",
                "One batch of one shard: `decode` and `apply`. `publish`: its counts. `assign`: taking over a shard.",
                "s",
                steps=(0.1, 0.5),
            ),
            Query(
                f'histogram_quantile(0.99, sum by (le, step) (rate({_STEP}_bucket{{step!="read",{_I}}}[$__rate_interval])))',
                "{{step}}",
            ),
        ),
    ]


def _group() -> Content:
    return [
        row("The group"),
        lines(
            About("Shards", "How many shards each worker reads.", "none", alerts=("AudienceShardUnowned",)),
            Query(f'audience_worker_assigned_shards{{job="audience-worker",{_I}}}', "{{instance}}"),
            stacked=True,
            width=6,
        ),
        lines(
            About("Rebalances", "`lost`: the group took shards from a worker that was silent for too long.", "none"),
            Query(
                f"sum by (event) (increase(audience_worker_rebalances_total{{{_I}}}[$__rate_interval]))", "{{event}}"
            ),
            width=6,
        ),
        lines(
            About(
                "Progress, by shard",
                "Offsets a second, as Redis holds them. Flat at 0 with lag: stuck.",
                "cps",
                alerts=("AudienceShardStuck",),
            ),
            Query("max by (shard) (rate(audience_shard_stored_offset[$__rate_interval]))", "shard {{shard}}"),
            stacked=True,
            width=6,
        ),
        lines(
            About(
                "Retries and fences",
                "Retries: Redis or Kafka was away. `behind`: Redis went back in time. `ahead`: another worker has moved on.",
                "cps",
                alerts=("AudienceRedisWentBack",),
            ),
            Query(f"sum(rate(audience_worker_retries_total{{{_I}}}[$__rate_interval]))", "retries"),
            Query(f"sum by (side) (rate(audience_worker_fenced_total{{{_I}}}[$__rate_interval]))", "{{side}}"),
            width=6,
        ),
    ]


def _process() -> Content:
    job = f'job="audience-worker",{_I}'
    return [
        row("Each process"),
        lines(
            About(
                "Processor", "Share of one core; a worker can use one.", "percentunit", steps=(0.7, 0.9), alerts=_STALE
            ),
            Query(f"rate(process_cpu_seconds_total{{{job}}}[$__rate_interval])", "{{instance}}"),
        ),
        lines(
            About("Memory", "Resident memory.", "bytes"),
            Query(f"process_resident_memory_bytes{{{job}}}", "{{instance}}"),
        ),
    ]
