"""Models of nodes."""

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from api.domain.specs import DEFAULT_CAPABILITIES, ROLE_OF_TYPE, Capability, NodeSpec, NodeType, Role, Template
from api.domain.status import NodeState
from api.schemas.base import Failure, Figure, RequestModel, ResponseModel, Timestamp, Word
from api.schemas.trainings import RoundWorker
from api.store.tables import NodeRow, RoundNodeRow


class NodeDeploy(RequestModel):
    """The node to deploy. No field is required."""

    node_type: NodeType = "worker"
    role: Role | None = Field(None, description="Default: the role of the node type; aggregator for a parameter_server.")
    model: Word = Field(
        "base", description="One of: base, large, minilm, a Hugging Face id, or an absolute path in the sandbox."
    )
    template: Template = "python"
    autonomy: float = Field(
        0.0,
        ge=0,
        le=1,
        description="What the node may decide by itself when `daa_enabled` is true. Below 0.3: nothing. From 0.3: retry"
        " transfers, restart its agent, and resume the round from its checkpoint. From 0.6: halve its batch size when memory"
        " runs out, and halve its learning rate when the loss diverges. From 0.8: stop local training early when its"
        " validation loss rises, and decline a round. Each decision is an event `node.decision` with its reason.",
    )
    capabilities: list[Capability] | None = Field(None, max_length=10, description="By default the capabilities of the role.")
    data_owner: bool = Field(
        False,
        description="Only the data owner's key has access to the sandbox, not even a key with `data:export`; not for a"
        " parameter_server.",
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "node_type": "worker",
                    "role": "worker",
                    "model": "base",
                    "template": "nodejs",
                    "autonomy": 0.8,
                    "capabilities": ["training", "inference"],
                }
            ]
        }
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        expected = ROLE_OF_TYPE[self.node_type]
        if self.role is not None and self.role != expected:
            raise ValueError(f"a {self.node_type} has the role {expected}")
        if self.data_owner and expected == "aggregator":
            raise ValueError("a parameter_server holds no owner's data")
        return self

    def spec(self) -> NodeSpec:
        role = ROLE_OF_TYPE[self.node_type]
        capabilities = DEFAULT_CAPABILITIES[role] if self.capabilities is None else tuple(dict.fromkeys(self.capabilities))
        return NodeSpec(self.node_type, role, self.model, self.template, self.autonomy, capabilities, self.data_owner)


class Resources(ResponseModel):
    """The resources of a node, measured inside its sandbox."""

    cpu_cores: int | None
    memory_gb: Figure | None = Field(description="The sandbox's memory limit in GiB.")
    gpu: str | None = Field(description="The name of the CUDA device; null without one.")


class RejectedUpdates(ResponseModel):
    """The rejected updates of a node, over all its trainings."""

    count: int
    last_training_id: str
    last_round: int
    last_reason: str


class Node(ResponseModel):
    """A node: one role of a cluster, in its own sandbox."""

    node_id: str = Field(examples=["node_w1_abc123"])
    cluster_id: str
    sandbox_id: str | None = Field(description="null until the provider has created the sandbox.")
    status: NodeState
    role: Role
    acts_as_aggregator: bool = Field(
        description="true for a worker that the consensus raft elected; the access to its sandbox stays the same."
    )
    capabilities: list[Capability]
    autonomy_level: float
    resources: Resources | None = Field(description="null until the node's agent has measured them.")
    node_type: NodeType
    model: str
    template: Template
    data_owner: bool = Field(description="Only the data owner's key has access to the sandbox.")
    former_sandbox_ids: list[str] = Field(
        description="Earlier sandboxes of the node, the oldest first; the node's cost includes theirs."
    )
    rejected_updates: RejectedUpdates | None = Field(
        description="Set when updates of the node were rejected by the validation, by an audit or by a consensus; null: never."
    )
    created_at: Timestamp
    error: Failure | None = Field(
        description="Why the node failed; while it is provisioning, why it does not run yet."
        " agent_unreachable: the sandbox runs, but calls to its agent do not pass."
    )

    @classmethod
    def of(cls, row: NodeRow) -> "Node":
        return cls(
            node_id=row.id,
            cluster_id=row.cluster_id,
            sandbox_id=row.sandbox_id,
            status=row.status,
            role=row.role,
            acts_as_aggregator=row.acts_as_aggregator,
            capabilities=row.capabilities,
            autonomy_level=row.autonomy,
            resources=Resources(**row.resources.model_dump()) if row.resources else None,
            node_type=row.node_type,
            model=row.model,
            template=row.template,
            data_owner=row.data_owner,
            former_sandbox_ids=[former["sandbox_id"] for former in row.former_sandboxes],
            rejected_updates=RejectedUpdates(**row.rejected_updates) if row.rejected_updates else None,
            created_at=row.created_at,
            error=Failure.of(row.error),
        )


class NodeRound(RoundWorker):
    """The work of one worker in one round."""

    training_id: str
    round: int

    @classmethod
    def of(cls, row: RoundNodeRow) -> "NodeRound":
        return cls(training_id=row.training_id, round=row.number, **dict(RoundWorker.of(row)))


class NodeRounds(ResponseModel):
    """The last rounds of a worker."""

    node_id: str
    items: list[NodeRound] = Field(description="The newest first, at most 100.")
