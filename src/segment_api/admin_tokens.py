"""Who may administer: the token of AUDIENCE_ADMIN_TOKEN, or each of several while one takes another's place."""

import hmac
from collections.abc import Sequence


class AdminTokens:
    """Tokens that are valid now, compared in constant time."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.all = tuple(tokens)

    def match(self, given: bytes) -> str | None:
        """The token that was given, or None. Looks at each of them, whichever it is."""
        found = None
        for token in self.all:
            if hmac.compare_digest(given, token.encode()):
                found = token
        return found
