"""Nodes with real sandboxes, for tests that need no worker."""

import asyncio
from typing import Any

from api.domain.sandboxes import SandboxSpec
from api.settings import Settings
from api.store import transitions
from api.store.tables import NodeRow
from tests.api.routes.user import User
from workers.sandboxes.client import SandboxClient


def start(settings: Settings, user: User, template: str = "python", **fields: Any) -> str:
    """Start a node with a real sandbox and return its id."""
    node_id = user.deploy(user.cluster(), template=template, **fields)
    key = node_id.replace("_", "-")
    spec = SandboxSpec(key=key, template=template, timeout_s=300, metadata={"node_id": node_id})
    info = asyncio.run(SandboxClient(settings).create(spec))
    with user.rows.unit_of_work() as uow:
        row = uow.session.get_one(NodeRow, node_id)
        row.sandbox_id, row.started_at = info.sandbox_id, info.started_at
        transitions.move(uow.session, row, "running")
    return node_id
