"""States of subscriptions, as many tests need them."""

from audience_core.domain.records import AudienceSubscription


def active(account: str, audience_id: int, at: int, name: str | None = None) -> AudienceSubscription:
    """An audience that was connected, under its first epoch; `at` in ms. The name tells the states of one apart."""
    return AudienceSubscription(
        account=account,
        audience_id=audience_id,
        name=f"as of {at}" if name is None else name,
        description="",
        status="ACTIVE",
        epoch=0,
        settings={},
        opened_at=at,
        updated_at=at,
    )
