"""Names of Redis keys: no account can be called so that its keys are somebody else's."""

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from audience_core.domain.partitioning import ACCOUNT_PATTERN
from audience_core.redis import keys

accounts = st.from_regex(ACCOUNT_PATTERN, fullmatch=True) | st.sampled_from(
    ["requests", "version", "versions", "counts", "connectors", "keys", "1"]
)
OF_ALL = {value for name, value in vars(keys).items() if re.fullmatch("[A-Z_]+", name)}


def names_of(account: str) -> list[str]:
    return [
        keys.catalog(account),
        keys.index(account),
        keys.index_counts(account),
        keys.connectors(account),
        keys.account_keys(account),
        keys.segments(account),
        keys.activity(account),
        keys.activity_requests(account),
        keys.activity_changes(account, 1, 1),
        keys.history(account, 1),
    ]


@given(left=accounts, right=accounts)
def test_no_two_keys_have_one_name_whatever_accounts_are_called(left: str, right: str) -> None:
    names = names_of(left) if left == right else names_of(left) + names_of(right)
    everything = [*names, *OF_ALL, keys.activity(""), keys.activity_requests(None)]
    twice = [name for name, group in itertools.groupby(sorted(everything)) if len(list(group)) > 1]
    assert twice == []
