"""The subscriptions topic of tests, and what its records are written with."""

from audience_core.codec import Codec
from ingest_gateway.outgoing import Records

SHARDS = 2
WITHIN_S = 5.0
CODEC = Codec()
RECORDS = Records(CODEC, SHARDS)
