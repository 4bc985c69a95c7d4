"""States of subscriptions, and what they are written with."""

from audience_core.codec import Codec
from audience_core.domain.records import AudienceSubscription
from ingest_gateway.outgoing import Records

SHARDS = 2
WITHIN_S = 5.0
CODEC = Codec()
RECORDS = Records(CODEC, SHARDS)


def state(account: str, audience_id: int, at: int) -> AudienceSubscription:
    return AudienceSubscription(
        account=account,
        audience_id=audience_id,
        name=f"as of {at}",
        description="",
        status="ACTIVE",
        epoch=0,
        settings={},
        opened_at=1,
        updated_at=at,
    )
