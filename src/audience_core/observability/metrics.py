"""Every metric of the project; `docs/metrics.md` is written from here.

Labels are bounded: never an MPID, an account, a name or a key. A `shard` label has as many values as there are shards.
Histograms are observed once a request, a batch or a turn, never once a record.
"""

from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from audience_core.observability.tally import TalliedCounter, TalliedHistogram
from audience_core.topics import TOPICS

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nothing here reads

# every service
BUILD = Gauge("audience_build_info", "1; the label says which version runs", ["version"])
BUILD.labels(version("audience-stream")).set(1)
DEAD_LETTERS = Counter(
    "audience_dead_letters_total",
    "Records, profiles and audiences put aside, by reason; one dead letter may tell of many",
    ["reason"],
)
KAFKA_FAILED = Counter(
    "audience_kafka_failed_records_total",
    "Records that Kafka refused or did not acknowledge within librdkafka's own bound, by topic",
    ["topic"],
)

# gateway
GATEWAY_REQUESTS = TalliedCounter(
    "audience_gateway_requests_total", "Firehose requests by message type and HTTP status", ["type", "status"]
)
GATEWAY_LATENCY = TalliedHistogram(
    "audience_gateway_request_duration_seconds",
    "From the end of a request's body to its answer",
    buckets=(0.0025, 0.005, 0.01, 0.015, 0.025, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 1, 5),
)
GATEWAY_ACK = TalliedHistogram(
    "audience_gateway_ack_duration_seconds",
    "Waiting until every record of a request is acknowledged by all in-sync replicas",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.035, 0.05, 0.08, 0.1, 0.25, 1),
)
GATEWAY_UNAVAILABLE = Counter(
    "audience_gateway_unavailable_total",
    "Answers 503 by reason: kafka, producer_queue_full, spool, redis, connections, internal",
    ["reason"],
)
GATEWAY_PROFILES = TalliedCounter("audience_gateway_profiles_total", "Profiles of accepted membership messages")
GATEWAY_CHANGES = TalliedCounter(
    "audience_gateway_changes_total", "Membership changes acknowledged by Kafka: enter, exit", ["action"]
)
GATEWAY_SKIPPED = Counter(
    "audience_gateway_skipped_changes_total", "Changes that change no membership, by reason", ["reason"]
)
GATEWAY_THROTTLED = Counter(
    "audience_gateway_throttled_requests_total", "Membership messages answered 429 because of their account's quota"
)
GATEWAY_SPOOLED = Counter(
    "audience_gateway_spooled_records_total", "Records written to the disk spool instead of Kafka"
)
GATEWAY_SPOOL_DRAINED = Counter(
    "audience_gateway_spool_drained_records_total", "Records of the disk spool that Kafka has acknowledged"
)
GATEWAY_SPOOL_RECORDS = Gauge("audience_gateway_spool_records", "Records in the disk spool of this process")
GATEWAY_SPOOL_BYTES = Gauge("audience_gateway_spool_bytes", "Bytes of the records in the disk spool of this process")
GATEWAY_ACTIVITY_DROPPED = Counter(
    "audience_gateway_activity_dropped_total",
    "Requests that are missing in what the console shows, because Redis did not take the note",
)

# worker
WORKER_RECORDS = Counter("audience_worker_records_total", "Records applied")
WORKER_CHANGES = Counter(
    "audience_worker_changes_total",
    "Membership changes by outcome: entered, left, unchanged, stale, suppressed",
    ["outcome"],
)
WORKER_ERASED = Counter("audience_worker_erased_visitors_total", "Visitors erased")
WORKER_STEP = Histogram(
    "audience_worker_step_duration_seconds",
    "Where a worker's time goes: assign, read (waiting for records included), decode, apply, publish, commit",
    ["step"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
WORKER_FRESHNESS = Histogram(
    "audience_worker_freshness_seconds",
    "From the gateway's receipt of the oldest record of a batch to the batch's application",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800),
)
WORKER_SHARDS = Gauge("audience_worker_assigned_shards", "Shards that this worker reads")
WORKER_OFFSET = Gauge(
    "audience_worker_applied_offset",
    "Next offset of a shard that this worker reads; gone once it is revoked",
    ["shard"],
)
WORKER_LEFT = Gauge(
    "audience_worker_left_records",
    "Records of this worker's shards that it has not applied, by the logs' ends as its fetches brought them",
)
WORKER_LEFT_SECONDS = Gauge(
    "audience_worker_left_seconds",
    "Estimated time until a worker that catches up has done so; 0 when none does, +Inf while it can't be told",
)
WORKER_REBALANCES = Counter(
    "audience_worker_rebalances_total",
    "Calls of the consumer group: assigned, revoked, lost (the group took shards from a silent worker)",
    ["event"],
)
WORKER_RETRIES = Counter("audience_worker_retries_total", "Attempts repeated because Redis or Kafka was away")
WORKER_FENCED = Counter(
    "audience_worker_fenced_total", "Batches refused because the stored offset was another: behind or ahead", ["side"]
)

# indexer
INDEXER_RECORDS = Counter("audience_indexer_records_total", "Records read, by kind", ["kind"])
INDEXER_WRITES = Counter("audience_indexer_listing_writes_total", "Audiences written to the listing")
INDEXER_REBUILDS = Counter("audience_indexer_rebuilds_total", "Times that the whole listing was written again")
INDEXER_AUDIENCES = Gauge("audience_indexer_populated_audiences", "Audiences that are subscribed and populated")
INDEXER_MEMBERSHIPS = Gauge("audience_indexer_memberships", "Members of all subscribed audiences together")
INDEXER_FRESHNESS = Histogram(
    "audience_indexer_freshness_seconds",
    "From a worker's publishing of a count to the listing that shows it, oldest record of a write",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60),
)
INDEXER_DRIFTED = Gauge(
    "audience_indexer_drifted_audiences",
    "Audiences whose published counts differed from the shards' own at the last comparison, which repaired them",
)

# measured by the indexer, from outside the workers: it still tells when they are gone
SHARD_OFFSET = Gauge("audience_shard_stored_offset", "Next offset of a shard, as Redis holds it", ["shard"])
SHARD_LAG_RECORDS = Gauge("audience_shard_lag_records", "Records of a shard that are not applied yet", ["shard"])
SHARD_LAG_SECONDS = Gauge(
    "audience_shard_lag_seconds",
    "Age of the oldest record of a shard that is not applied yet; 0 when all are",
    ["shard"],
)
REDIS_MEMORY = Gauge("audience_redis_memory_bytes", "Memory that a Redis node uses for data and buffers", ["node"])
REDIS_LIMIT = Gauge(
    "audience_redis_memory_limit_bytes", "maxmemory of a Redis node; its host's memory when that is unlimited", ["node"]
)
REDIS_EVICTED = Gauge(
    "audience_redis_evicted_keys", "Keys that a Redis node threw away for lack of memory since it started", ["node"]
)
REDIS_OPERATIONS = Gauge("audience_redis_operations_per_second", "Commands that a Redis node executes now", ["node"])
SHARD_GAUGES = (SHARD_OFFSET, SHARD_LAG_RECORDS, SHARD_LAG_SECONDS)
REDIS_GAUGES = (REDIS_MEMORY, REDIS_LIMIT, REDIS_EVICTED, REDIS_OPERATIONS)
CONNECTORS_LATE = Gauge(
    "audience_connector_late", "Connectors that used to speak and are silent for too long, or use a revoked API key"
)

# segment API
API_REQUESTS = TalliedCounter("audience_api_requests_total", "Requests by route and HTTP status", ["route", "status"])
API_LATENCY = TalliedHistogram(
    "audience_api_segments_duration_seconds",
    "Answering one visitor's segments",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)


def _start_at_zero(counter: Counter, *values: str) -> None:
    """A series that is born with its first event hides that event from `increase`."""
    for value in values:
        counter.labels(value)


_start_at_zero(
    DEAD_LETTERS,
    "audience_malformed",
    "erasure_without_account",
    "mpid_missing",
    "no_registry",
    "occurred_in_future",
    "profile_malformed",
    "undecodable",
    "unknown_schema",
    "wrong_schema",
)
_start_at_zero(KAFKA_FAILED, *(topic.name for topic in TOPICS))
_start_at_zero(GATEWAY_UNAVAILABLE, "kafka", "producer_queue_full", "spool", "redis", "connections", "internal")
_start_at_zero(GATEWAY_SKIPPED, "attribute_update", "audience_removed", "identity_malformed")
_start_at_zero(WORKER_REBALANCES, "assigned", "revoked", "lost")
_start_at_zero(WORKER_FENCED, "behind", "ahead")
GATEWAY_CHANGES.add(0, "enter")
GATEWAY_CHANGES.add(0, "exit")
API_REQUESTS.add(0, "segments", "200")
