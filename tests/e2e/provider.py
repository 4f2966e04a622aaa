"""The options that direct E2B's plain SDK to a stack's sandboxes."""

from e2b.connection_config import ApiParams

from api.embedded.stack import EmbeddedStack


def provider(stack: EmbeddedStack) -> ApiParams:
    return {
        "api_key": stack.env["E2B_API_KEY"],
        "api_url": stack.env["E2B_API_URL"],
        "sandbox_url": stack.env["E2B_SANDBOX_URL"],
        "http_version": "1.1",
    }
