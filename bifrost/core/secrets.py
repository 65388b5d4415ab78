"""Secrets that this process has read, and texts without them.

`config_environ.reveal`, the one place where secrets are read, makes them known here. Whatever leaves the process in words, a log line,
a reason in `bifrost status`, an answer with an error, goes through `redacted`: nobody can say what a broker or a library puts into its
messages. One list for the process, since a secret read by one part can turn up in another. Safe to use from threads.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import msgspec

__all__ = ["HIDDEN", "SECRETS", "Secrets"]

HIDDEN: Final = "***"

_LENGTH_MIN: Final = 4  # Replacing "on" everywhere would make texts unreadable and protect nothing.
_COUNT_MAX: Final = 256  # Of the newest: a secret that is renewed each hour for days is not kept for ever.


class Secrets:
    """Some secrets."""

    def __init__(self) -> None:
        self._known: tuple[str, ...] = ()
        self._forms: tuple[str, ...] = ()

    def hide(self, secret: str) -> None:
        """Knows `secret` from now on. Texts shorter than 4 characters are not worth hiding; of more than 256 the oldest are forgotten."""
        if len(secret) < _LENGTH_MIN or secret in self._known:
            return
        self._known = (*self._known[1 - _COUNT_MAX :], secret)
        forms = {form for known in self._known for form in _forms_of(known)}
        self._forms = tuple(sorted(forms, key=len, reverse=True))  # One secret may be the beginning of another.

    def redacted(self, text: str) -> str:
        """`text` without the secrets, however a program may have spelled them: plain, quoted, in JSON or in a URL."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text


def _forms_of(secret: str) -> set[str]:
    return {secret, repr(secret)[1:-1], msgspec.json.encode(secret).decode()[1:-1], quote(secret, safe="")}


SECRETS: Final = Secrets()
"""Those of this process."""
