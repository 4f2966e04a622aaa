"""The options of a training. Each option is written once: name, type, bounds, default and help.

Four places take the options from here, by name:

- the request (`api.schemas.trainings`),
- the stored `TrainingSpec`,
- the flags of the command line (`api.cli.training_options`),
- the agent's `Hyperparameters`.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType

from api.domain.strategies import Strategy
from api.domain.words import Words

Optimizer = Annotated[
    Literal["adam", "adamw", "sgd", "rmsprop", "adagrad"], Words("Optimizer", "The optimizer at each worker.")
]
Schedule = Annotated[Literal["cosine", "constant"], Words("Schedule", "How the learning rate changes from round to round.")]
Compression = Annotated[
    Literal["none", "fp16", "int8", "topk", "topk+fp16", "topk+int8", "lora", "lora+fp16", "lora+int8"],
    Words("Compression", "How updates shrink on their way to the aggregator."),
]
OnBadRows = Annotated[Literal["refuse", "skip"], Words("OnBadRows", "What happens to rows without a usable text or label.")]
FieldName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
_ClassName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
# It has a name: some generators of clients cannot write this union and must skip it.
LabelNames = TypeAliasType(
    "LabelNames",
    Annotated[
        Annotated[list[_ClassName], Field(min_length=2, max_length=10_000)]
        | Annotated[dict[_ClassName, _ClassName], Field(min_length=2, max_length=10_000)],
        Field(description="The classes by label: a list for the labels 0, 1, 2, ..., or a map."),
    ],
)

MOST_EPOCHS: Final = 10_000
DEFAULT_RATIO: Final = 0.05
DEFAULT_RANK: Final = 8


class PrivacyOptions(BaseModel):
    """The options of DP-SGD. Give one of `target_epsilon` and `noise_multiplier`."""

    target_epsilon: float | None = Field(
        None, gt=0, le=1000, description="The epsilon after all epochs. The noise is chosen to reach it."
    )
    noise_multiplier: float | None = Field(
        None, ge=0.1, le=1000, description="Standard deviation of the noise, divided by max_grad_norm."
    )
    max_grad_norm: float = Field(1.0, gt=0, le=1e6, description="Each record's gradient is clipped to this Euclidean norm.")
    delta: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="null: 1 / (10 n). n is the number of records of the largest shard when the training begins.",
    )


class TrainingOptions(BaseModel):
    """What a client may choose for a training."""

    dataset: str = Field(
        description="Path or glob inside each worker's sandbox. With federated false: inside the aggregator's sandbox. "
        "Files are JSON arrays, JSON Lines, CSV, TSV or Parquet, also compressed with gzip or zstd. "
        "The content decides the format.",
        examples=["/data/train_*.json"],
    )
    text_field: FieldName = Field("text", description="Field or column with the texts, in every file of the training.")
    label_field: FieldName | None = Field(
        None,
        description="Field or column with the labels. Labels are words, integers or booleans. "
        "null: the first of sentiment, label, labels and category that a file has; two of them are refused.",
    )
    label_names: LabelNames | None = Field(
        None,
        description="The classes. A list names the labels 0, 1, 2, ...; a map names any labels. "
        "Other labels are refused. null: every label is a class.",
        examples=[["negative", "positive"]],
    )
    on_bad_rows: OnBadRows = Field(
        "refuse", description="What happens to rows without a usable text or label. skip leaves them out and counts them."
    )
    initial_model: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"\S")] | None = Field(
        None,
        description="A model of the project to begin from: a model id, a training id or the path of an export. "
        "The export is a folder or a tar in the aggregator's sandbox. "
        "Its classes stay in their order, and new classes follow. It must fit the cluster's model.",
        examples=["mdl_4k2j9x"],
    )
    epochs: int = Field(ge=1, le=MOST_EPOCHS, description="Epochs over each worker's data.")
    batch_size: int = Field(32, ge=1, le=4096, description="Samples of one optimizer step at one worker.")
    learning_rate: float = Field(0.001, gt=0, le=10, description="Learning rate of the first round.")
    schedule: Schedule = Field(
        "cosine", description="How the learning rate changes from round to round. cosine: it falls to nearly 0."
    )
    optimizer: Optimizer = Field("adam", description="The optimizer at each worker.")
    federated: bool = Field(
        True,
        description="false: synchronous data-parallel training on one pooled data set in the aggregator's sandbox. "
        "The samples (token ids and classes) leave that sandbox. Each worker gets an equal share and keeps it in memory only. "
        "Each step averages the gradients over the cluster's topology. The workers' own data is not used. "
        "It needs consensus none, strategy fedavg, no compression and no frozen layers.",
    )
    local_epochs: int = Field(1, ge=1, le=1000, description="Epochs that a worker trains in one round.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the first weights, the batches and the draws.")
    strategy: Strategy = Field(
        "fedavg",
        description="How updates become the next global model. "
        "median, trimmed_mean, krum, multi_krum and bulyan tolerate malicious workers. "
        "diloco trains with adamw: there, the default of `optimizer` counts as absent.",
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="Weight decay of the optimizer.")
    max_length: int = Field(
        128,
        ge=8,
        le=512,
        description="Tokens of a text that the network reads. Longer texts are cut. "
        "The linear path of a model from scratch reads 1024 tokens.",
    )
    validation: str = Field(
        "/data/validation*.json",
        description="Path or glob in the sandboxes of the aggregator and the validators. It is used if it exists.",
    )
    hold_out: bool = Field(
        True,
        description="true: a tenth of each worker's samples is not trained on. "
        "Temperatures, weights and committee votes are measured on it. "
        "So is the validation accuracy, where there is no validation file. "
        "false: all samples are trained on, as with differential privacy. "
        "Those figures then come from the validation file, or are null.",
    )

    server_learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        description="Step size of the server's optimizer. "
        "Defaults: fedavgm 1; fedadam, fedyogi and fedadagrad 0.01; diloco 0.7.",
    )
    server_momentum: float | None = Field(None, ge=0, lt=1, description="Fedavgm and diloco: the server's momentum (0.9).")
    server_beta_1: float | None = Field(None, ge=0, lt=1, description="Fedadam and fedyogi (0.9), fedadagrad (0).")
    server_beta_2: float | None = Field(None, ge=0, lt=1, description="Fedadam and fedyogi (0.99).")
    server_tau: float | None = Field(
        None, gt=0, le=1, description="Fedadam, fedyogi and fedadagrad: degree of adaptivity (0.001)."
    )
    proximal_mu: float | None = Field(None, ge=0, le=100, description="fedprox: weight of the proximal term (0.01).")
    trim_fraction: float | None = Field(
        None, gt=0, lt=0.5, description="trimmed_mean: share of the values that is dropped at each end (0.25)."
    )
    byzantine_count: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Krum, multi_krum (n >= 2f+3) and bulyan (n >= 4f+3): the number f of malicious workers (1).",
    )

    fraction: float = Field(1.0, gt=0, le=1, description="Share of the workers that is drawn for each round, by the seed.")
    min_workers: int = Field(1, ge=1, le=10_000, description="Fewest workers that are drawn for a round.")
    late_joiners: bool = Field(
        True,
        description="true: a worker that is deployed and connected during the training takes part from the next round. "
        "Its data must fit. false: the training keeps the workers that it began with. "
        "A red flag names each running worker that takes no part, and why.",
    )
    round_deadline_s: float | None = Field(
        None,
        ge=1,
        le=86_400,
        description="Seconds after which a round ends with the updates that have arrived. null: the deployment's setting.",
    )
    quorum: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of a round's workers whose updates are enough for the round. null: the deployment's setting.",
    )

    target_accuracy: float | None = Field(
        None, gt=0, le=1, description="End after a round whose validation_accuracy is at least this."
    )
    patience: int | None = Field(
        None, ge=1, le=10_000, description="End after this many rounds without a better validation_accuracy."
    )
    budget_usd: float | None = Field(
        None, gt=0, le=1e9, description="End before a round that would cost more than this. The last round is the estimate."
    )
    max_minutes: float | None = Field(
        None, gt=0, le=1e6, description="End before a round that would take longer than this. The last round is the estimate."
    )

    mixed_precision: bool = Field(
        False, description="Train in bf16 where a node's hardware has it. A node without it says so in its `decisions`."
    )
    freeze_layers: int = Field(
        0, ge=0, le=1000, description="The embeddings and this many encoder layers are not trained. 0 trains everything."
    )
    compression: Compression | None = Field(
        None,
        description="How updates shrink on their way to the aggregator. fp16. int8: stochastic rounding. "
        "topk: only the largest values; the rest is added to the next update. topk+fp16, topk+int8. "
        "lora: only low-rank adapters are trained and sent. lora+fp16, lora+int8. "
        "Models travel back to the workers in fp32.",
    )
    compression_ratio: float | None = Field(
        None, gt=0, le=1, description=f"topk: share of the values that is sent. Default {DEFAULT_RATIO}."
    )
    lora_rank: int | None = Field(None, ge=1, le=256, description=f"lora: rank of the adapters. Default {DEFAULT_RANK}.")
    differential_privacy: PrivacyOptions | None = Field(
        None,
        description="Hide whether any one record was in a worker's shard. `privacy` shows what was spent.",
    )
    secure_aggregation: bool = Field(
        False, description="The aggregator sees the sum of the updates, and no single update. It needs 3 workers."
    )


class RequestedOptions(TrainingOptions):
    """The options of a request. It has one more: a short form of another option."""

    gradient_compression: bool | None = Field(None, description="Without `compression`: true means topk, false means none.")
