"""The token that metrics may need."""

import secrets

from api.settings import Settings


def is_allowed(settings: Settings, authorization: str | None) -> bool:
    """Return whether the header `Authorization` of a scrape is right. Without a token, any is."""
    if settings.metrics_token is None:
        return True
    expected = f"Bearer {settings.metrics_token.get_secret_value()}"
    return secrets.compare_digest((authorization or "").encode(), expected.encode())
