"""MPIDs in names of keys."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from audience_core.domain.mpids import pack_mpid, unpack_mpid

NUMBERS = st.integers(-(2**65), 2**65).map(str)
OTHERS = ["-0", "007", "1_0", " 1", "\N{ARABIC-INDIC DIGIT ONE}", ""]
ODD = st.text(max_size=256) | st.from_regex(r"\A[-+ _0-9]{1,25}\Z") | st.sampled_from(OTHERS)


@example("0", "00")
@example("AAAAAAAAAAE", "1")
@example(":AAAAAAAAAAE", "AAAAAAAAAAE")
@given(NUMBERS | ODD, NUMBERS | ODD)
def test_a_name_stands_for_one_mpid_alone(one: str, other: str) -> None:
    assert unpack_mpid(pack_mpid(one)) == one
    assert (pack_mpid(one) == pack_mpid(other)) == (one == other)


@given(st.integers(-(2**63), 2**63 - 1).map(str))
def test_a_number_of_mparticle_takes_eleven_characters(mpid: str) -> None:
    assert len(pack_mpid(mpid)) == 11


@pytest.mark.parametrize("mpid", ["007", "+1", "9223372036854775808", "v-1"])
def test_any_other_mpid_stays_readable(mpid: str) -> None:
    assert pack_mpid(mpid) == f":{mpid}"
