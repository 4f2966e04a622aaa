"""What marks a sandbox as ours at a provider that several deployments may share."""

import hashlib
import hmac

from api.settings import Settings


def deployment_id(settings: Settings) -> str:
    """Names this deployment without saying anything about its secret."""
    secret = settings.secret_key.get_secret_value().encode()
    return hmac.new(b"deployment:" + secret, b"", hashlib.sha256).hexdigest()[:16]


def metadata(settings: Settings, **ids: str) -> dict[str, str]:
    return {"flow-nexus": deployment_id(settings), **ids}
