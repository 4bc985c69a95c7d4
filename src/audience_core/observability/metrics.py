"""Every metric of the project. Labels are bounded: never an MPID, an account, a name or a key."""

from prometheus_client import Counter, Gauge, Histogram

# gateway
GATEWAY_REQUESTS = Counter(
    "audience_gateway_requests_total", "Firehose requests by message type and HTTP status", ["type", "status"]
)
GATEWAY_LATENCY = Histogram(
    "audience_gateway_request_duration_seconds",
    "From the end of a request's body to its answer",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 1, 5),
)
GATEWAY_CHANGES = Counter("audience_gateway_changes_total", "Membership changes published, by action", ["action"])
GATEWAY_SKIPPED = Counter(
    "audience_gateway_skipped_changes_total", "Changes that change no membership, by reason", ["reason"]
)
GATEWAY_ACTIVITY_DROPPED = Counter(
    "audience_gateway_activity_dropped_total",
    "Requests that are missing in what the console shows, because Redis did not take the note",
)
DEAD_LETTERS = Counter("audience_dead_letters_total", "Records sent to the dead letters, by reason", ["reason"])

# worker
WORKER_RECORDS = Counter("audience_worker_records_total", "Records applied")
WORKER_CHANGES = Counter(
    "audience_worker_changes_total",
    "Membership changes by outcome: entered, left, unchanged, stale, suppressed",
    ["outcome"],
)
WORKER_ERASED = Counter("audience_worker_erased_visitors_total", "Visitors erased")
WORKER_BATCH = Histogram(
    "audience_worker_batch_duration_seconds",
    "One batch of one shard: decode, apply, publish counts",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
WORKER_FRESHNESS = Histogram(
    "audience_worker_freshness_seconds",
    "From the gateway's receipt of the newest record of a batch to its application",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800),
)
WORKER_SHARDS = Gauge("audience_worker_assigned_shards", "Shards that this worker owns")
WORKER_RETRIES = Counter("audience_worker_retries_total", "Attempts repeated because Redis or Kafka was away")
WORKER_FENCED = Counter(
    "audience_worker_fenced_total", "Batches refused because the stored offset was another: behind or ahead", ["side"]
)

# indexer
INDEXER_RECORDS = Counter("audience_indexer_records_total", "Records read, by kind", ["kind"])
INDEXER_WRITES = Counter("audience_indexer_listing_writes_total", "Audiences written to the listing")
INDEXER_REBUILDS = Counter("audience_indexer_rebuilds_total", "Times that the whole listing was written again")
INDEXER_AUDIENCES = Gauge("audience_indexer_populated_audiences", "Audiences that are subscribed and populated")
CONNECTORS_LATE = Gauge(
    "audience_connector_late", "Connectors that used to speak and are silent for too long, or use a revoked API key"
)

# segment API
API_REQUESTS = Counter("audience_api_requests_total", "Requests by route and HTTP status", ["route", "status"])
API_LATENCY = Histogram(
    "audience_api_segments_duration_seconds",
    "Answering one visitor's segments",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)
