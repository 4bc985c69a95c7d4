"""The story of a change, from mParticle to the listing, in one page."""

from frame import Content
from panels import About, Query, heat, lines, numbers, row

P99 = "histogram_quantile({q}, sum by (le) (rate({metric}_bucket[$__rate_interval])))"
LAG = ("AudienceLagSteep", "AudienceLagLong", "AudienceLagUnknown")
PAGES = ("AudienceGatewayRefuses", "AudienceGatewaySlow", "AudienceMembershipsStale", "AudienceSegmentsFail")


def quantile(q: float, metric: str) -> str:
    """Query of a quantile of a histogram."""
    return P99.format(q=q, metric=metric)


def content() -> Content:
    """From what is promised to where it may be lost."""
    return [*_objectives(), *_gateway(), *_freshness(), *_workers(), *_redis(), *_dead_letters()]


def _objectives() -> Content:
    return [
        row("Objectives"),
        numbers(
            About(
                "Budget left",
                "Share of each objective's 30-day budget that is not used up; below 0 the objective is missed.",
                "percentunit",
                steps=(0, 0.25),
                alerts=("AudienceBudgetLeaks",),
                down=True,
            ),
            Query("1 - audience:slo_bad:ratio_rate30d / on (slo) audience:slo_budget:ratio", "{{slo}}"),
            width=9,
        ),
        lines(
            About(
                "Burn rate over an hour",
                "How many times faster than allowed the budget is used. 1 lasts for 30 days; above 14.4 somebody is woken.",
                "none",
                steps=(6, 14.4),
                alerts=PAGES,
            ),
            Query("audience:slo_bad:ratio_rate1h / on (slo) audience:slo_budget:ratio", "{{slo}}"),
            width=9,
            height=6,
        ),
        numbers(
            About(
                "Alerts",
                "Alerts that fire now, without the watchdog.",
                "none",
                steps=(1, 2),
                alerts=("AudienceWatchdog",),
            ),
            Query('count(ALERTS{alertname=~"Audience.+",alertstate="firing",severity!="info"}) or vector(0)', "firing"),
            width=3,
        ),
        numbers(
            About(
                "Instances",
                "Processes of each service that answer Prometheus.",
                "none",
                steps=(1,),
                alerts=("AudienceJobGone", "AudienceInstanceDown"),
                down=True,
            ),
            Query('sum by (job) (up{job=~"audience-.+"})', "{{job}}"),
            width=3,
        ),
    ]


def _gateway() -> Content:
    return [
        row("Gateway: what mParticle sees"),
        lines(
            About(
                "Requests by status",
                "200 is success; 503 is sent again by mParticle; any other is lost for good.",
                "reqps",
                alerts=("AudienceGatewayRefuses",),
            ),
            Query("sum by (status) (rate(audience_gateway_requests_total[$__rate_interval]))", "{{status}}"),
            stacked=True,
            width=8,
        ),
        lines(
            About(
                "Time to answer",
                "From the end of a request's body. mParticle allows 100 ms; we promise a p99 of 25 ms.",
                "s",
                steps=(0.025, 0.1),
                alerts=("AudienceGatewaySlow",),
            ),
            *(
                Query(quantile(q, "audience_gateway_request_duration_seconds"), f"p{q * 100:g}")
                for q in (0.5, 0.95, 0.99)
            ),
            width=8,
        ),
        lines(
            About(
                "Refused, by reason",
                "Answers 503 a second: what was away.",
                "reqps",
                alerts=("AudienceGatewayRefuses", "AudienceSpoolInUse"),
            ),
            Query("sum by (reason) (rate(audience_gateway_unavailable_total[$__rate_interval]))", "{{reason}}"),
            stacked=True,
            width=8,
        ),
    ]


def _freshness() -> Content:
    return [
        row("Freshness: from receipt to Redis"),
        heat(
            About(
                "Age of changes when they are applied",
                "The oldest change of each batch, from its receipt at the gateway to its application.",
                "s",
                alerts=("AudienceMembershipsStale",),
            ),
            "sum by (le) (increase(audience_worker_freshness_seconds_bucket[$__rate_interval]))",
        ),
        lines(
            About(
                "Freshness, p99",
                "Applied: receipt to Redis. Listed: from there to the listing. The promise for both is 1 s.",
                "s",
                steps=(1, 5),
                alerts=("AudienceMembershipsStale",),
            ),
            Query(quantile(0.99, "audience_worker_freshness_seconds"), "applied"),
            Query(quantile(0.99, "audience_indexer_freshness_seconds"), "listed"),
            width=6,
        ),
        lines(
            About(
                "Lag",
                "Age of the oldest change that is not applied, worst shard; measured from outside the workers.",
                "s",
                steps=(10, 60),
                alerts=LAG,
            ),
            Query("max(audience_shard_lag_seconds)", "oldest unapplied change"),
            width=6,
        ),
    ]


def _workers() -> Content:
    return [
        row("Workers: where each second goes"),
        lines(
            About(
                "Where a worker's second goes",
                "Seconds a second, all workers together. `read` is mostly waiting; `apply` is Redis; `decode` is the processor.",
                "s",
            ),
            Query("sum by (step) (rate(audience_worker_step_duration_seconds_sum[$__rate_interval]))", "{{step}}"),
            stacked=True,
        ),
        lines(
            About(
                "Shards without a worker",
                "Shards that Redis knows and no worker reads. A rebalance shows for seconds.",
                "none",
                steps=(1, 2),
                alerts=("AudienceShardUnowned", "AudienceShardStuck"),
            ),
            Query(
                "count(max by (shard) (audience_shard_stored_offset) unless on (shard) audience_worker_applied_offset) or vector(0)",
                "without a worker",
            ),
            width=6,
        ),
        lines(
            About(
                "Group",
                "Shards of each worker, and how often the group moved them.",
                "none",
                alerts=("AudienceShardUnowned",),
            ),
            Query('max by (instance) (audience_worker_assigned_shards{job="audience-worker"})', "{{instance}} shards"),
            Query("sum by (event) (increase(audience_worker_rebalances_total[$__rate_interval]))", "{{event}}"),
            width=6,
        ),
    ]


def _redis() -> Content:
    memory = "max by (node) (audience_redis_memory_bytes / audience_redis_memory_limit_bytes)"
    return [
        row("Redis: use and saturation"),
        lines(
            About(
                "Memory",
                "Used share of each node's limit. A full node takes no change any more.",
                "percentunit",
                steps=(0.8, 0.95),
                alerts=("AudienceRedisMemoryHigh", "AudienceRedisMemoryFull"),
            ),
            Query(memory, "{{node}}"),
            width=6,
        ),
        lines(
            About("Operations", "Commands a second that each node executes.", "ops"),
            Query("max by (node) (audience_redis_operations_per_second)", "{{node}}"),
            width=6,
        ),
        lines(
            About(
                "Applying a batch",
                "One script call for one batch of one shard: how long Redis takes.",
                "s",
                steps=(0.1, 0.5),
            ),
            *(
                Query(
                    f'histogram_quantile({q}, sum by (le) (rate(audience_worker_step_duration_seconds_bucket{{step="apply"}}[$__rate_interval])))',
                    f"p{q * 100:g}",
                )
                for q in (0.5, 0.99)
            ),
            width=6,
        ),
        lines(
            About(
                "Lost keys and time",
                "Keys thrown away for lack of memory since a node's start, and batches that found Redis behind.",
                "none",
                steps=(1, 2),
                alerts=("AudienceRedisEvicts", "AudienceRedisWentBack"),
            ),
            Query("max by (node) (audience_redis_evicted_keys)", "{{node}} evicted"),
            Query('sum(increase(audience_worker_fenced_total{side="behind"}[$__rate_interval]))', "went back"),
            width=6,
        ),
    ]


def _dead_letters() -> Content:
    return [
        row("Dead letters"),
        lines(
            About(
                "Dead letters, by reason",
                "What could not be applied and was put aside.",
                "cps",
                alerts=("AudienceDeadLetters", "AudienceDeadLettersMany"),
            ),
            Query("sum by (reason) (rate(audience_dead_letters_total[$__rate_interval]))", "{{reason}}"),
            stacked=True,
        ),
        lines(
            About(
                "Records that Kafka did not take",
                "Given up after librdkafka's own bound. Any value is a fault.",
                "cps",
                alerts=("AudienceDeadLetterWritesFail", "AudienceKafkaRefusesRecords"),
            ),
            Query("sum by (topic) (rate(audience_kafka_failed_records_total[$__rate_interval]))", "{{topic}}"),
        ),
    ]
