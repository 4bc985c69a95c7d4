"""What passes without a model reads as the models read it, and nothing else passes."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ingest_gateway import firehose
from ingest_gateway.firehose import AudienceItem, Identity, MembershipMessage, Profile

TEXTS = st.one_of(
    st.sampled_from(["", "7", " 7", "-1", "a\x00b", "x" * 257, "add", "raw", "é", "2147483648"]), st.text(max_size=8)
)
NUMBERS = st.one_of(
    st.sampled_from([0, 7, -(2**31), 2**31 - 1, 2**31, -(2**31) - 1, 2**63, -(2**63) - 1, 10**30]), st.integers()
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)


def settings(name: str) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.fixed_dictionaries({name: TEXTS}),
        st.fixed_dictionaries({}, optional={name: ANYTHING, "other": ANYTHING}),
        ANYTHING,
    )


def mostly(plain: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(plain, plain, plain, ANYTHING)


def messages(**plain: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Dictionaries in which any field may be absent or something else, and now and then no dictionary."""
    fields = {name: mostly(values) for name, values in plain.items()}
    return st.one_of(
        st.fixed_dictionaries(fields), st.fixed_dictionaries({}, optional={**fields, "more": ANYTHING}), ANYTHING
    )


LISTS = st.lists(ANYTHING, max_size=3)
ITEMS = messages(
    audience_id=NUMBERS,
    audience_name=TEXTS,
    action=st.sampled_from(["add", "delete", "attribute_update", "ADD", "update"]),
    audience_subscription_settings=settings("audienceEpoch"),
)
PROFILES = messages(mpid=TEXTS, audiences=LISTS, user_identities=LISTS)
IDENTITIES = messages(type=TEXTS, encoding=st.sampled_from(["raw", "md5", "sha1", "sha256", "RAW"]), value=TEXTS)
MEMBERSHIPS = messages(
    id=st.one_of(TEXTS, st.text(min_size=250, max_size=260)),
    timestamp_ms=NUMBERS,
    account=st.fixed_dictionaries({"account_settings": settings("apiKey")}),
    user_profiles=LISTS,
).filter(lambda raw: isinstance(raw, dict))


def outcome(read: Callable[[Any], Any], raw: Any) -> Any:
    try:
        return read(raw)
    except ValidationError as error:
        return firehose.explain(error)


def item_by_model(raw: Any) -> Any:
    item = AudienceItem.model_validate(raw)
    return item.audience_id, item.action, item.audience_subscription_settings.get("audienceEpoch", "")


def profile_by_model(raw: Any) -> Any:
    profile = Profile.model_validate(raw)
    return profile.mpid, profile.audiences


def identity_by_model(raw: Any) -> Any:
    identity = Identity.model_validate(raw)
    return identity.type, identity.encoding, identity.value


def membership_by_model(raw: Any) -> Any:
    message = MembershipMessage.model_validate(raw)
    return message.id, message.timestamp_ms, message.api_key, message.user_profiles


@given(ITEMS)
def test_an_audience_reads_as_its_model_has_it(raw: Any) -> None:
    assert outcome(firehose.read_item, raw) == outcome(item_by_model, raw)


@given(PROFILES)
def test_a_profile_reads_as_its_model_has_it(raw: Any) -> None:
    assert repr(outcome(firehose.read_profile, raw)) == repr(outcome(profile_by_model, raw))  # a NaN is not itself


@given(IDENTITIES)
def test_an_identity_reads_as_its_model_has_it(raw: Any) -> None:
    assert outcome(firehose.read_identity, raw) == outcome(identity_by_model, raw)


@given(MEMBERSHIPS)
def test_a_message_reads_as_its_model_has_it(raw: Any) -> None:
    found, expected = outcome(firehose.read_membership, raw), outcome(membership_by_model, raw)
    assert repr(tuple(found)) == repr(tuple(expected))


@pytest.mark.parametrize("name", ["MembershipMessage", "Profile", "AudienceItem", "Identity"])
def test_what_mparticle_writes_passes_without_a_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(firehose, name)
    item = {"audience_id": 7, "audience_name": "A", "action": "add"}
    echo = {"audience_subscription_settings": {"audienceEpoch": "3"}}
    account = {"account_settings": {"apiKey": "k"}}
    message = {"id": "r", "timestamp_ms": 1, "account": account, "user_profiles": [{}]}
    assert firehose.read_item(item) == (7, "add", "")
    assert firehose.read_item({**item, **echo}) == (7, "add", "3")
    assert firehose.read_profile({"mpid": "-1", "audiences": [item]}) == ("-1", [item])
    assert firehose.read_identity({"type": "email", "encoding": "sha256", "value": "x"}) == ("email", "sha256", "x")
    assert firehose.read_membership(message) == ("r", 1, "k", [{}])
