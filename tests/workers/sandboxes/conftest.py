from tests.workers.sandboxes.hosting import host

__all__ = ["host"]
