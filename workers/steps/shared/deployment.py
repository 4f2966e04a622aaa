"""Marks that tell our sandboxes from others at a provider that several deployments share."""

import hashlib
import hmac

from api.settings import Settings


def metadata(settings: Settings, **ids: str) -> dict[str, str]:
    return metadata_of(settings.secret_key.get_secret_value(), **ids)


def metadata_of(secret_key: str, **ids: str) -> dict[str, str]:
    """Name the deployment by a hash of its secret, which does not disclose the secret."""
    mark = hmac.new(b"deployment:" + secret_key.encode(), b"", hashlib.sha256).hexdigest()[:16]
    return {"flow-nexus": mark, **ids}
