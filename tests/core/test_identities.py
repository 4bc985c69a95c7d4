"""Identities as HMACs, and how an erasure finds them."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_core.domain.identities import (
    hmac_of_profile_identity,
    hmacs_of_erased_identity,
    profile_type,
)

PEPPER = b"a pepper for the tests"
RAW = "Jane.Doe@Example.com"
LOWER = RAW.lower().encode()
FORMS = {
    "raw": RAW,
    "sha256": hashlib.sha256(LOWER).hexdigest(),
    "sha1": hashlib.sha1(LOWER, usedforsecurity=False).hexdigest(),
    "md5": hashlib.md5(LOWER, usedforsecurity=False).hexdigest(),
}


@pytest.mark.parametrize("encoding", FORMS)
def test_a_raw_erasure_finds_every_form_of_the_identity(encoding: str) -> None:
    stored = hmac_of_profile_identity(PEPPER, "demo", "email", encoding, FORMS[encoding])
    assert stored in hmacs_of_erased_identity(PEPPER, "demo", "email", "raw", RAW)


@pytest.mark.parametrize("written", [RAW, RAW.upper(), f" {RAW}\n", RAW.lower()])
def test_case_and_blanks_around_a_raw_value_do_not_hide_it(written: str) -> None:
    stored = hmac_of_profile_identity(PEPPER, "demo", "email", "sha256", FORMS["sha256"])
    assert hmac_of_profile_identity(PEPPER, "demo", "email", "raw", written) == stored
    assert stored in hmacs_of_erased_identity(PEPPER, "demo", "email", "raw", written)


@pytest.mark.parametrize("encoding", ["sha256", "sha1", "md5"])
def test_a_hash_in_upper_case_is_the_same_hash(encoding: str) -> None:
    lower, upper = FORMS[encoding].lower(), FORMS[encoding].upper()
    stored = hmac_of_profile_identity(PEPPER, "demo", "email", encoding, lower)
    assert hmacs_of_erased_identity(PEPPER, "demo", "email", encoding, upper) == [stored]


def test_a_hashed_erasure_finds_only_its_own_form() -> None:
    stored = {form: hmac_of_profile_identity(PEPPER, "demo", "email", form, FORMS[form]) for form in FORMS}
    assert stored["raw"] == stored["sha256"]
    assert len({stored["sha256"], stored["sha1"], stored["md5"]}) == 3
    assert hmacs_of_erased_identity(PEPPER, "demo", "email", "md5", FORMS["md5"]) == [stored["md5"]]


def test_the_same_text_under_two_forms_is_two_identities() -> None:
    text = "0" * 40
    assert hmac_of_profile_identity(PEPPER, "demo", "email", "sha1", text) != hmac_of_profile_identity(
        PEPPER, "demo", "email", "md5", text
    )


@pytest.mark.parametrize(
    ("account", "kind", "pepper"),
    [("other", "email", PEPPER), ("demo", "customer", PEPPER), ("demo", "email", b"another pepper, as long")],
)
def test_another_account_type_or_pepper_gives_another_hmac(account: str, kind: str, pepper: bytes) -> None:
    stored = hmac_of_profile_identity(PEPPER, "demo", "email", "raw", RAW)
    assert stored not in hmacs_of_erased_identity(pepper, account, kind, "raw", RAW)


@given(st.text(), st.sampled_from(["raw", "md5", "sha1", "sha256"]))
def test_an_hmac_has_128_bits_of_letters_that_no_key_trips_over(value: str, encoding: str) -> None:
    stored = hmac_of_profile_identity(PEPPER, "demo", "email", encoding, value.encode(errors="ignore").decode())
    assert len(stored) == 22
    assert set(stored) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize(
    ("erased", "profile"),
    [
        ("controller_customer_id", "customer"),
        ("android_advertising_id", "google_advertising_id"),
        ("email", "email"),
        ("android_id", "android_id"),
        ("ios_advertising_id", "ios_advertising_id"),
        ("ios_vendor_id", "ios_vendor_id"),
        ("fire_advertising_id", "fire_advertising_id"),
        ("microsoft_advertising_id", "microsoft_advertising_id"),
        ("microsoft_publisher_id", "microsoft_publisher_id"),
        ("roku_advertising_id", "roku_advertising_id"),
        ("roku_publisher_id", "roku_publisher_id"),
    ],
)
def test_an_erasure_names_types_in_opendsr_words_a_profile_in_mparticles(erased: str, profile: str) -> None:
    assert profile_type(erased) == profile
