"""Recognise keys. A key that was recognised a moment ago is not looked up again."""

import time
from collections import defaultdict
from dataclasses import dataclass

from api.runtime.listener import Listener
from api.runtime.single_flight import SingleFlight
from api.runtime.transactions import UseCaseRunner
from api.services import principals
from api.services.principals import PREFIX_LENGTH, Principal
from api.settings import Settings

# Revoking and rotating end a recognition at once. This limit is for changes of the table by hand.
MOST_S = 10.0
_MOST_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class _Recognised:
    principal: Principal
    until: float


class KeyCache:
    """The keys that this process has recognised in the last ten seconds, by the hash of a secret.

    A revoked or rotated key ends by a notification. Each request first asks the notification
    connection whether all notifications have arrived. So a request that comes after the end of a
    key never passes. Without the connection, every key is looked up.
    """

    def __init__(self, settings: Settings, use_cases: UseCaseRunner, listener: Listener) -> None:
        self._settings = settings
        self._use_cases = use_cases
        self._listener = listener
        self._lookups = SingleFlight()
        self._known: dict[bytes, _Recognised] = {}
        self._secrets: dict[str, set[bytes]] = defaultdict(set)
        self._changes = 0
        listener.on_key_change = self.forget

    async def find(self, plaintext: str, *, caught_up: bool) -> Principal | None:
        """Return the principal of a key, also of an expired or revoked one. None: no such key.

        `caught_up`: every notification sent before the request has arrived.
        """
        digest = principals.digest(self._settings, plaintext)
        known = self._current(digest) if caught_up else None
        if known is not None:
            return known.principal

        async def look_up() -> Principal | None:
            return await self._look_up(digest, plaintext)

        return await self._lookups.run(digest, look_up)

    def forget(self, key_id: str | None) -> None:
        """Forget a key, or all keys."""
        self._changes += 1
        if key_id is None:
            self._known.clear()
            self._secrets.clear()
            return
        for digest in self._secrets.pop(key_id, ()):
            self._known.pop(digest, None)

    def _current(self, digest: bytes) -> _Recognised | None:
        known = self._known.get(digest)
        return known if known is not None and time.monotonic() < known.until else None

    async def _look_up(self, digest: bytes, plaintext: str) -> Principal | None:
        changes, now = self._changes, time.monotonic()
        prefix, former = plaintext[:PREFIX_LENGTH], principals.former_digest(self._settings, plaintext)
        found = await self._use_cases.run(lambda uow: principals.find_principal(uow.session, digest, prefix, former))
        # A change that came meanwhile may be newer than what was read.
        if found is not None and found.valid and self._listener.is_connected and changes == self._changes:
            if len(self._known) >= _MOST_KEYS:
                self.forget(None)
            seconds = MOST_S if found.valid_for_s is None else min(MOST_S, found.valid_for_s)
            self._known[digest] = _Recognised(found, now + seconds)
            self._secrets[found.key_id].add(digest)
        return found
