"""What a subscription message does to the catalog.

A `remove` opens a new epoch, and that is all it costs: old members carry the old epoch, so nobody sees or counts them.
"""

from typing import Literal

from audience_core.domain.records import AudienceSubscription

SubscriptionAction = Literal["add", "update", "remove"]


def apply_subscription(
    current: AudienceSubscription | None,
    *,
    account: str,
    audience_id: int,
    action: SubscriptionAction,
    name: str,
    description: str,
    settings: dict[str, str],
    occurred_at: int,
) -> AudienceSubscription:
    """Return the audience's state after a message.

    Idempotent by the message's time: an older message changes nothing, a repeated one gives the same state again.
    A `remove` of an audience that was never seen still opens an epoch, so that a late `add` can't undo it.
    """
    if current is not None and occurred_at < current["updated_at"]:
        return current
    was_active = current is None or current["status"] == "ACTIVE"
    epoch = 0 if current is None else current["epoch"]
    opened_at = occurred_at if current is None else current["opened_at"]
    if action == "remove":
        kept = current if current is not None else None
        return AudienceSubscription(
            account=account,
            audience_id=audience_id,
            name=name or (kept["name"] if kept else ""),
            description=kept["description"] if kept else "",
            status="REMOVED",
            epoch=epoch + 1 if was_active else epoch,
            settings=kept["settings"] if kept else {},
            opened_at=occurred_at if was_active else opened_at,
            updated_at=occurred_at,
        )
    return AudienceSubscription(
        account=account,
        audience_id=audience_id,
        name=name or (current["name"] if current else ""),
        description=description,
        status="ACTIVE",
        epoch=epoch,
        settings=settings,
        opened_at=opened_at if was_active else occurred_at,
        updated_at=occurred_at,
    )


def newer(left: AudienceSubscription, right: AudienceSubscription) -> AudienceSubscription:
    """Return the later of two states of one audience.

    Of one time, the higher epoch is the later, and of one epoch the active state: a `remove` opens the epoch that an
    `add` finds.
    """
    return max(left, right, key=lambda state: (state["updated_at"], state["epoch"], state["status"] == "ACTIVE"))


def epoch_of_change(current: AudienceSubscription | None, *, echoed: int | None, occurred_at: int) -> int | None:
    """Return the epoch that a membership change belongs to, or None when it belongs to nothing any more.

    mParticle echoes the epoch that the subscription's answer gave it. A sender that does not is taken to mean the
    present subscription, unless that one is removed or was opened after the change happened.
    """
    if echoed is not None:
        return echoed
    if current is None:
        return 0
    if current["status"] == "REMOVED":
        return None
    if current["epoch"] > 0 and occurred_at < current["opened_at"]:
        return None
    return current["epoch"]
