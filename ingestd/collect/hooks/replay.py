"""Remembers which signed tokens were used for which content, within the time that they are accepted. Pure.

Mailgun signs a token and not the body, so whoever sees one request could send another body with its signature. A token
is good for the first body that came with it. It is good for that body again: a vendor repeats what was answered 503.
"""

import hashlib

TOKENS_MAX = 100_000  # about 20 MB


class UsedTokens:
    """Tokens with the digest of their content and the end of their time, the oldest first."""

    def __init__(self, capacity: int = TOKENS_MAX) -> None:
        self._capacity = capacity
        self._used: dict[bytes, tuple[bytes, int]] = {}

    def __len__(self) -> int:
        return len(self._used)

    def use(self, token: bytes, content: bytes, now: int, until: int) -> bool:
        """Whether `token` is new, or was used for the same content; times in milliseconds."""
        key, digest = _digest(token), _digest(content)
        known = self._used.get(key)
        if known is not None and known[1] >= now:
            return known[0] == digest
        while self._used:
            oldest = next(iter(self._used))
            if len(self._used) < self._capacity and self._used[oldest][1] >= now:
                break
            del self._used[oldest]
        self._used.pop(key, None)
        self._used[key] = digest, until
        return True


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()
