"""The messages between the control plane and an agent, and between agents.

Every request carries `Authorization: Bearer <pass>` (passes.py): it says who calls, and server.py who may. Tensors travel as
safetensors bodies between agents only;
the control plane sees nothing but the JSON below. Shapes: a state dict maps parameter names to fp32 tensors; an update may be
less than one (update.py).

    GET  /health                                     -> Health
    POST /shards/check            ShardCheck         -> ShardReport           (worker: is the data usable?)
    POST /trainings               TrainingInit       -> TrainingReady         (aggregator: first global model, or the last)
    POST /rounds/aggregate        AggregateRound     -> AggregateReport       (aggregator: start to collect)
    POST /rounds/train            TrainRound         -> TrainReport           (worker: start local training)
    GET  /trainings/{t}/rounds/{n}?role=&wait=20     -> TrainReport | AggregateReport   (long poll: answers at the next change)
    POST /trainings/{t}/rounds/{n}/drop  Drop        -> AggregateReport       (aggregator: do not wait for these)
    POST /trainings/{t}/stop                         -> Stopped               (worker or aggregator: end the round in hand)
    POST /models                  Keep               -> Kept                  (worker: have a copy of a global model)
    POST /evaluations             Evaluate           -> Evaluation            (worker, on its held-out split)
    POST /scores                  Score              -> Scores                (worker, as a member of a committee)
    POST /ballots                 Ballot             -> Voted                 (worker: who shall be the aggregator now?)
    POST /audits                  Audit              -> Audited               (worker: do a part of your round again)
    POST /predictions             Predict            -> Predictions           (aggregator: splits texts over workers, combines)
    POST /inferences              Infer              -> Inference             (worker: probabilities for some texts)
    POST /exports                 Export             -> Exported              (aggregator: writes /export/<name>)
    GET  /models/{digest}                            -> safetensors body      (any agent that has it)
    PUT  /trainings/{t}/rounds/{n}/updates/{node}    safetensors body -> Receipt        (worker -> aggregator)
    GET  /trainings/{t}/rounds/{n}/parts/{name}?wait=20              -> a part's body   (worker <- worker; 404: ask again)
    GET  /trainings/{t}/rounds/{n}/evidence/{name}   safetensors body       (aggregator <- worker, after Audited)
    POST /trainings/{t}/rounds/{n}/exchanged  Exchanged -> Receipt   (worker -> aggregator: what the exchange gave)
    POST /trainings/{t}/rounds/{n}/fallback   Fallback  -> Stopped   (aggregator -> worker: send your own update)
    POST /trainings/{t}/rounds/{n}/secure/{phase}?wait=10   (worker -> aggregator: keys, shares, survivors and unmask of a
                                                             secure sum; secure_aggregation/messages.py)

An AggregateRound with `synchronous` is led by the aggregator alone; what its workers then hear is in synchronous/messages.py.

Posting the same round twice is safe: the second answer is the report of the first. Errors are JSON
`{"code": …, "message": …}` with a 4xx or 5xx status; a message never quotes data.
"""

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

PORT = 8000
HELD_OUT_FRACTION = 0.1
SELF_RESTART_LEVEL = 0.3


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Autonomy(Message):
    """What a node may decide by itself; `level` 0..1, in force only when `enabled`."""

    enabled: bool = False
    level: float = 0.0

    def allows(self, least: float) -> bool:
        """Whether a node may do what begins at the level `least`."""
        return self.enabled and self.level >= least


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Decision(Message):
    """One autonomous act of a node, with its reason in words (no data). `at` tells it from another of the same kind."""

    action: str
    reason: str
    at: str = Field(default_factory=_now)


class AgentConfig(Message):
    """Written to a file in the sandbox before the agent starts; the agent removes the file once it has read it."""

    node_id: str
    role: Literal["worker", "aggregator", "validator"]
    key: str = Field(repr=False, description="what passes at this agent are made with")
    port: int = PORT
    threads: int | None = Field(None, description="CPU threads for torch; None lets the agent decide")
    autonomy: Autonomy = Autonomy()


class Peer(Message):
    """Another agent, as it is reached from inside a sandbox. `token` is the reader's own pass at that agent."""

    node_id: str
    url: str
    headers: dict[str, str] = Field({}, repr=False)
    uds: str | None = None
    token: str | None = Field(None, repr=False)


class Health(Message):
    status: Literal["ok"] = "ok"
    node_id: str
    role: str
    pid: int
    uptime_seconds: float
    threads: int
    cpu_cores: int
    memory_gb: float | None = Field(description="GiB that this sandbox may use; null when it cannot be read")
    rss_mb: float
    gpu: str | None = Field(description="Name of the CUDA device, null without one")


class Problem(Message):
    code: str
    message: str


class ModelSpec(Message):
    """Which network: the same spec and seed give the same initial weights on every agent."""

    architecture: str
    model: str
    labels: list[str] = Field(description="class names in output order, sorted")
    max_length: int = Field(128, description="tokens; longer texts are cut")
    seed: int = 0
    lora_rank: int = Field(0, ge=0, description="rank of the adapters that alone are trained; 0 trains the weights themselves")


class ShardCheck(Message):
    dataset: str = Field(description="absolute path or glob inside the sandbox")
    labelled: bool = True


class ShardReport(Message):
    """What a shard holds, by counts only."""

    node_id: str
    files: int = 0
    samples: int = 0
    labels: dict[str, int] = {}
    problem: Problem | None = None


class TrainingInit(Message):
    training_id: str
    model: ModelSpec
    base_digest: str | None = Field(None, description="continue from this global model; None starts a new one")
    sources: list[Peer] = Field([], description="agents that may have a copy of base_digest")
    validation: str | None = Field(None, description="path or glob of a labelled validation file; optional even when named")
    freeze_layers: int = 0
    private: bool = Field(False, description="whether the workers will train with differential privacy")


class TrainingReady(Message):
    digest: str
    parameters: int
    bytes: int
    validation_samples: int | None = None
    problem: Problem | None = None


class Compression(Message):
    """How an update shrinks on its way from worker to aggregator. A compressed one is a difference to the base model."""

    values: Literal["fp32", "fp16", "int8"] = "fp32"
    sparse: bool = False
    ratio: float = Field(1.0, gt=0, le=1, description="share of the values that a sparse update keeps")

    @property
    def is_none(self) -> bool:
        return self.values == "fp32" and not self.sparse


class Privacy(Message):
    """DP-SGD of one worker for one round: each of its `samples` records joins a step with probability `sampling_rate`."""

    samples: int
    sampling_rate: float = Field(gt=0, le=1)
    noise_multiplier: float = Field(ge=0, description="standard deviation of the noise over `max_grad_norm`")
    max_grad_norm: float = Field(gt=0)
    steps: int = Field(ge=1, description="of this round")


class Hyperparameters(Message):
    local_epochs: int = 1
    batch_size: int
    learning_rate: float
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "adagrad"]
    weight_decay: float = 0.0
    seed: int = 0
    proximal_mu: float = Field(0.0, description="FedProx: weight of the pull towards the round's base")
    keep_moments: bool = Field(False, description="DiLoCo: the optimizer's state goes on from this worker's last round")
    mixed_precision: bool = False
    freeze_layers: int = Field(0, ge=0, description="embeddings and so many encoder layers stay as they are; 0 trains all")
    hold_out: bool = Field(True, description="false: train on all samples")
    privacy: Privacy | None = Field(None, description="train with differential privacy; nothing is held out then")


class DataPath(Message):
    """How a round's updates become one mean: over the workers instead of at the aggregator. `peers` in their order in the
    ring; `groups` of node ids: for `hierarchical` each begins with its head, for `gossip` they are the round's pairs."""

    kind: Literal["mesh", "ring", "hierarchical", "gossip"]
    peers: list[Peer]
    groups: list[list[str]] = []
    wait_s: float = Field(description="how long a worker waits for another's part")


class Link(Message):
    """What went from one agent to another in a round: bytes of bodies, seconds from a body's first byte to its last."""

    source: str
    target: str
    bytes: int
    seconds: float


class LocalWork(Message):
    """What a worker computes in a round: all that its result depends on, beside its shard."""

    training_id: str
    round: int = Field(ge=1)
    model: ModelSpec
    base_digest: str
    dataset: str
    hyperparameters: Hyperparameters


class TrainRound(LocalWork):
    aggregator: Peer
    consensus: str = "none"
    autonomy: Autonomy = Autonomy()
    path: DataPath | None = Field(None, description="None: a star, the update goes to the aggregator")
    resend: bool = Field(False, description="a round that is done: send its update again, the aggregator has lost it")
    compression: Compression = Compression()
    secure_aggregation: bool = Field(False, description="send the update masked; the aggregator learns the sum alone")

    @property
    def work(self) -> LocalWork:
        """May be kept on the sandbox's disk, where passes may not."""
        return LocalWork(**{name: getattr(self, name) for name in LocalWork.model_fields})


class Commitment(Message):
    """Proof-of-learning: a hash chain over base digest, batch-order seed, and each segment's end, loss, steps and trace."""

    seed: str = Field(description="what the batches' order was drawn from")
    segments: list[str] = Field(description="digest of the state after each segment of steps, in order")
    losses: list[float] = Field(description="mean training loss of each segment")
    steps: list[int] = Field(description="optimizer steps of each segment; 0: compression changed the state on its way")
    traces: list[str] = Field(description="digest of the fingerprints of each segment's steps")
    root: str = Field(description="last link of the chain")


class TrainReport(Message):
    node_id: str
    training_id: str
    round: int
    state: Literal["running", "done", "failed", "stopped", "declined"]
    progress: float = Field(0.0, description="0..1 of this round's steps")
    samples: int | None = Field(None, description="training samples in the shard, held-out ones excluded")
    loss: float | None = Field(None, description="mean cross-entropy over the last local epoch, in nats")
    accuracy: float | None = Field(None, description="fraction right over the last local epoch, while training")
    pull_seconds: float | None = None
    train_seconds: float | None = None
    push_seconds: float | None = None
    bytes_sent: int | None = None
    commitment: Commitment | None = None
    private_steps: int | None = Field(None, description="DP-SGD: steps that this round has spent here, repetitions included")
    decisions: list[Decision] = []
    links: list[Link] = Field([], description="what this worker took from others")
    problem: Problem | None = None


class StrategySpec(Message):
    """How updates become the next global model; only the parameters of the strategy named are set."""

    name: str = "fedavg"
    server_learning_rate: float | None = None
    server_momentum: float | None = None
    server_beta_1: float | None = None
    server_beta_2: float | None = None
    server_tau: float | None = None
    trim_fraction: float | None = None
    byzantine_count: int | None = None


class AggregateRound(Message):
    training_id: str
    round: int = Field(ge=1)
    model: ModelSpec
    base_digest: str
    workers: list[Peer]
    self_peer: Peer = Field(description="how the workers reach this aggregator")
    dataset: str
    quorum: int = Field(ge=1, description="fewest updates that make a round")
    strategy: StrategySpec = StrategySpec()
    consensus: str = "none"
    deadline_s: float
    hyperparameters: Hyperparameters | None = Field(None, description="the workers', to judge what an audit brings")
    path: DataPath | None = Field(None, description="None: a star, the aggregator takes every update")
    fallback: str | None = Field(None, description="why the path is given up before the round begins here")
    compression: Compression = Compression()
    freeze_layers: int = 0
    secure_aggregation: bool = False
    synchronous: Hyperparameters | None = Field(
        None, description="set: `dataset` is here, and the workers average gradients on it instead of models of their own"
    )
    introductions: dict[str, list[Peer]] = Field(
        {}, description="for `synchronous`: to each worker, all workers with its own passes; to be handed on to it alone"
    )


class Drop(Message):
    node_ids: list[str]


class Exchanged(Message):
    """What an exchange gave one worker: a mean that the aggregator may pull by its digest, or a problem."""

    report: TrainReport
    digest: str | None = Field(None, description="of the mean; None for a member of a group, whose head has it")
    samples: int = Field(0, description="training samples that the mean stands for")
    problem: Problem | None = None


class Fallback(Message):
    reason: str


class Score(Message):
    """Judge updates on your own held-out samples. `candidates` maps node ids to the digests of their updates."""

    training_id: str
    model: ModelSpec
    base_digest: str
    candidates: dict[str, str]
    source: Peer
    dataset: str
    limit: int = Field(128, description="held-out samples to look at, at most")


class Effect(Message):
    """What an update changed on a voter's held-out samples, against the round's base."""

    change: float = Field(description="mean total variation between the two models' probabilities, 0..1")
    gain: float = Field(description="mean loss (nats) of the base less that of the candidate")
    error: float = Field(description="standard error of the gain over the samples")


class Scores(Message):
    node_id: str
    samples: int
    base: float = Field(description="accuracy of the round's base model")
    candidates: dict[str, float] = Field(description="accuracy of each candidate")
    effects: dict[str, Effect] = Field({}, description="what each candidate changed")


class Vote(Message):
    """One committee member's finding on one update; `score` is its accuracy less the base model's, on the voter's held-out
    data."""

    voter: str
    candidate: str
    accept: bool
    score: float | None = None
    reason: str | None = Field(None, description="why not, in words")


class Ballot(Message):
    """Shall `candidate` be the aggregator in `term`? `digest` is the last committed model; None before the first round."""

    training_id: str
    term: int = Field(ge=1)
    candidate: str
    digest: str | None


class Voted(Message):
    node_id: str
    term: int = Field(description="the newest term that this worker has voted in")
    granted: bool
    holds: bool = Field(description="whether it has the last committed model")


class Audit(Message):
    """Do a segment of your round again, and keep what it was like after `step` of its steps."""

    training_id: str
    round: int
    segment: int = Field(ge=0)
    steps: int = Field(ge=1, description="steps of the segment, as committed to")
    step: int = Field(ge=1)
    nonce: str


class Audited(Message):
    """A worker's answer: its evidence (the states `start`, `middle` and `end`) may be fetched now."""

    node_id: str
    nonce: str
    fingerprints: list[str] = Field(description="of each step of the segment, in order")
    loss: float = Field(description="the batch's mean training loss in the step asked about, which its fingerprint covers")
    seconds: float


class AuditRecord(Message):
    """An audit and what came of it. `nonce` is the fresh randomness that, with all roots, drew workers, segments and steps."""

    worker: str
    segment: int
    step: int
    passed: bool
    reason: str | None = None
    seconds: float | None = Field(None, description="of the replay, as the worker measured it")
    nonce: str


class Evaluation(Message):
    node_id: str
    digest: str
    samples: int
    loss: float
    accuracy: float
    seconds: float


class AggregateReport(Message):
    node_id: str
    training_id: str
    round: int
    state: Literal["collecting", "done", "failed", "stopped"]
    received: list[TrainReport] = Field([], description="reports of the workers whose updates have arrived")
    accepted: list[str] = []
    rejected: dict[str, str] = Field({}, description="node id -> why its update does not count")
    late: list[str] = Field([], description="nodes whose updates had not come by the deadline; they are refused afterwards")
    notices: list[str] = Field([], description="what was unlike what was asked for, in words")
    fallback: str | None = Field(None, description="why the exchange over the workers was given up for the star")
    links: list[Link] = Field([], description="of the data path that made the model, base downloads included")
    votes: list[Vote] = []
    audits: list[AuditRecord] = []
    consensus_distance: float | None = Field(
        None, description="gossip: mean distance of the workers' models from their mean, over the mean's own norm"
    )
    digest: str | None = None
    aggregate_seconds: float | None = None
    consensus_seconds: float | None = None
    bytes_received: int | None = None
    validation: Evaluation | None = Field(
        None, description="new global model on the aggregator's validation file, if it has one"
    )
    decisions: list[Decision] = Field([], description="the aggregator's own")
    problem: Problem | None = None


class Stopped(Message):
    stopped: bool


class Receipt(Message):
    accepted: bool
    bytes: int
    problem: Problem | None = None


class Keep(Message):
    """Have a copy of a global model, so that it outlives the aggregator's sandbox."""

    training_id: str
    digest: str
    source: Peer
    head: Peer | None = Field(None, description="the head of the worker's group, which is asked first")


class Kept(Message):
    node_id: str
    digest: str
    links: list[Link] = []


class Evaluate(Message):
    training_id: str
    model: ModelSpec
    digest: str
    source: Peer
    dataset: str
    held_out: bool = Field(True, description="True: only the held-out split; False: every sample")


class Curve(Message):
    """How surprised a model is by held-out labels, by sums only: nats at each temperature of calibration.py's grid."""

    samples: int
    right: list[float] = Field(description="of the right labels")
    even: list[float] = Field(description="of all labels alike, mean over the classes")


class Predict(Message):
    """Give `inputs` or `input_data`. The aggregator splits the texts over the workers and combines what they answer."""

    training_id: str
    model: ModelSpec
    digest: str
    dataset: str | None = Field(
        None, description="the workers' shards, if parts of them were held out: temperatures and weights are measured on those"
    )
    validation: str | None = Field(
        None, description="the aggregator's validation file, if it has one: `global` is calibrated on it"
    )
    aggregation: Literal["global", "ensemble", "majority", "weighted", "mean"]
    workers: list[Peer]
    self_peer: Peer
    inputs: list[str] | None = None
    input_data: str | None = None
    engine: Literal["torch", "onnx"] = "torch"


class Prediction(Message):
    text: str
    sentiment: str
    confidence: float


class Predictions(Message):
    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1_score: float | None = None
    predictions: list[Prediction]
    temperature: float | None = Field(None, description="`global`: what the confidences were calibrated with")
    temperatures: dict[str, float | None] = Field({}, description="the others: of each worker's own model")
    engines: dict[str, str] = Field({}, description="what each worker computed with")
    seconds: float
    nodes_used: int
    lost: list[str] = []


class Infer(Message):
    training_id: str
    model: ModelSpec
    digest: str
    source: Peer
    texts: list[str]
    local: bool = Field(False, description="use this worker's own last local model where it has one")
    dataset: str | None = Field(None, description="this worker's shard: what is measured is measured on its held-out split")
    weigh: bool = Field(False, description="tell the held-out accuracy of the model used")
    calibrate: bool = Field(False, description="an own model answers calibrated, the global one with a curve")
    engine: Literal["torch", "onnx"] = "torch"


class Inference(Message):
    node_id: str
    probabilities: list[list[float]] = Field(description="texts x classes")
    weight: float | None = Field(None, description="held-out accuracy of the model used, where measured")
    temperature: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="that the probabilities were calibrated with"
    )
    curve: Curve | None = None
    engine: Literal["torch", "onnx-fp32", "onnx-int8"] = "torch"


class Export(Message):
    training_id: str
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    model: ModelSpec
    digest: str
    onnx: bool = False
    dataset: str | None = Field(
        None, description="the workers' shards, as in Predict: without validation data the temperature is fitted on them"
    )
    validation: str | None = Field(
        None, description="the aggregator's validation file: temperature and int8 are measured on it"
    )
    workers: list[Peer] = []
    self_peer: Peer | None = None
    card: dict[str, object] = Field({}, description="facts for the model card; no data")
    record: list[dict[str, object]] = Field([], description="figures of each round for the model card")


class ExportedFile(Message):
    path: str
    size: int
    sha256: str


class Exported(Message):
    path: str
    bytes: int
    files: list[ExportedFile]
