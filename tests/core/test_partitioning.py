"""The partition function, once for everybody."""

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_core.domain.partitioning import (
    audience_key,
    count_key,
    is_account,
    is_mpid,
    shard_of,
    visitor_key,
)

ACCOUNTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)
MPIDS = st.text(min_size=1, max_size=40).filter(is_mpid)


@pytest.mark.parametrize(
    ("key", "shards", "shard"),
    [(b"123456789", 2**32, 0xCBF43926), (b"demo:1", 8, crc32(b"demo:1") % 8), (b"", 64, 0)],
)
def test_the_shard_of_a_key_is_its_ieee_crc32_modulo_the_shards(key: bytes, shards: int, shard: int) -> None:
    assert shard_of(key, shards) == shard


def test_a_known_visitor_never_moves_to_another_shard_between_releases() -> None:
    placed = {mpid: shard_of(visitor_key("demo", mpid), 64) for mpid in ("1", "-1327484737295091692", "007")}
    assert placed == {"1": 18, "-1327484737295091692": 7, "007": 27}


@given(ACCOUNTS, MPIDS, st.integers(1, 4096))
def test_every_visitor_has_a_shard_within_the_range(account: str, mpid: str, shards: int) -> None:
    assert 0 <= shard_of(visitor_key(account, mpid), shards) < shards


@given(ACCOUNTS, MPIDS, ACCOUNTS, MPIDS)
def test_two_visitors_never_share_a_key(account: str, mpid: str, other: str, other_mpid: str) -> None:
    same = (account, mpid) == (other, other_mpid)
    assert (visitor_key(account, mpid) == visitor_key(other, other_mpid)) == same


def test_an_mpid_stays_a_text_in_its_key() -> None:
    assert visitor_key("demo", "007") != visitor_key("demo", "7")
    assert visitor_key("demo", "9007199254740993") == b"demo:9007199254740993"
    assert visitor_key("demo", "é") == "demo:é".encode()


def test_counts_of_one_audience_differ_by_epoch_and_shard_only() -> None:
    assert audience_key("demo", -3) == b"demo:-3"
    assert count_key("demo", -3, 2, 7) == b"demo:-3:2:7"
    assert len({count_key("demo", 1, epoch, shard) for epoch in range(3) for shard in range(3)}) == 9


@pytest.mark.parametrize("text", ["a", "0", "demo", "A-b_9", "a" * 64])
def test_an_account_is_up_to_64_letters_digits_underscores_and_hyphens(text: str) -> None:
    assert is_account(text)


@pytest.mark.parametrize("text", ["", "a" * 65, "-a", "_a", "a:b", "a b", "a\n", "é", "a/b", "{a}", "a*"])
def test_an_account_that_could_break_a_key_is_refused(text: str) -> None:
    assert not is_account(text)


@pytest.mark.parametrize("text", ["1", "-9223372036854775808", "é:漢字", "a:b", "x" * 256])
def test_an_mpid_may_be_any_printable_text(text: str) -> None:
    assert is_mpid(text)


@pytest.mark.parametrize("text", ["", "x" * 257, "a\x00", "a\n", "\ud800", "\x7f"])
def test_an_mpid_with_controls_surrogates_or_over_256_characters_is_refused(text: str) -> None:
    assert not is_mpid(text)
