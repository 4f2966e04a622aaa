"""Events of clusters and nodes."""

from typing import Literal

from pydantic import Field

from api.domain.decisions import DecisionAction
from api.domain.problem_codes import Code
from api.domain.specs import Role
from api.domain.status import ClusterState, NodeState
from api.domain.topology import Topology
from api.schemas.base import Figure
from api.schemas.events.base import EventBase, EventFailure


class ClusterStateEvent(EventBase):
    """The status of the cluster has changed."""

    type: Literal["cluster.initializing", "cluster.connected", "cluster.training", "cluster.terminating", "cluster.terminated"]
    from_: ClusterState | None = Field(alias="from")
    status: ClusterState
    topology: Topology | None
    reason: str | None


class ClusterBudgetEvent(EventBase):
    """The cluster has spent 80 % of its budget, or all of it."""

    type: Literal["cluster.budget_warning", "cluster.budget_spent"]
    budget_usd: Figure
    cost_usd: Figure


class ClusterIdleEvent(EventBase):
    """The cluster is idle, and is or will be terminated for it."""

    type: Literal["cluster.idle_warning", "cluster.idle_timeout"]
    idle_minutes: Figure
    timeout_minutes: Figure


class NodeStateEvent(EventBase):
    """The status of a node has changed."""

    type: Literal["node.provisioning", "node.running", "node.lost", "node.failed", "node.terminating", "node.terminated"]
    node_id: str
    from_: NodeState | None = Field(alias="from")
    status: NodeState
    role: Role | None
    sandbox_id: str | None
    reason: str | None
    error: EventFailure | None


class NodeGoneEvent(EventBase):
    """The sandbox of a lost node does not come back."""

    type: Literal["node.gone"]
    node_id: str
    role: Role
    code: Code
    detail: str


class NodeFilesLostEvent(EventBase):
    """A node got a new sandbox. The files in its old one are lost."""

    type: Literal["node.files_lost"]
    node_id: str
    role: Role
    detail: str


class NodeFlaggedEvent(EventBase):
    """An update of a node was rejected for its content."""

    type: Literal["node.flagged"]
    node_id: str
    round: int
    reason: str
    count: int = Field(description="Rejected updates of the node so far.")


class NodeDecisionEvent(EventBase):
    """A node decided something by itself, as its autonomy allows."""

    type: Literal["node.decision"]
    node_id: str
    round: int
    action: DecisionAction
    reason: str
    at: str = Field(description="The time in UTC, by the clock of the node.")
