"""The messages between the control plane and the agents, and between the agents.

Names: a request is a verb phrase (`TrainRound`). Its answer ends in `Result` or `Report`.
A `Result` is final. A `Report` describes a state that may change until the next call.
A few messages are data that a worker sends without a request: they end in `Result` as well.
All other classes are parts of messages (`Peer`, `ModelSpec`, `Vote`).
Only `AgentConfig` travels in a file, and `AgentHealth` answers a request without a body.

Every request has the header `Authorization: Bearer <token>` (peers/tokens.py). The token names the
caller. The server decides which roles may call a route.
Errors are JSON `{"code": ..., "message": ...}` with a 4xx or 5xx status.
A message never quotes data.

Tensors travel between agents only, as safetensors bodies. The control plane sees only JSON.
A state dict maps parameter names to fp32 tensors. An update may hold fewer of them (packing.py).

A round may be posted twice: the second answer is the report of the first.
A request with `wait` is a long poll: the answer comes at the next change or after `wait` seconds.
`{t}` is a training id, `{n}` a round number from 1 on.

Control plane -> any agent:

    GET  /health
         -> AgentHealth                             check that the agent is alive
    POST /models
         ReplicateModel -> ReplicateResult          copy a global model to this agent
    POST /trainings/{t}/stop
         -> StopResult                              end the round (aggregators call it, too)
    GET  /trainings/{t}/rounds/{n}?role=worker&wait=20
         -> TrainReport                             poll the local training
    GET  /trainings/{t}/rounds/{n}?role=aggregator&wait=20
         -> AggregateReport                         poll the aggregation

Control plane -> worker:

    POST /shards/check?wait=20
         CheckShard -> ShardReport                  check that the worker's data can be used
    POST /shards/encode?wait=20
         EncodeShard -> ShardReport                 write the token ids to disk
    POST /rounds/train
         TrainRound -> TrainReport                  start local training
    POST /evaluations
         EvaluateModel -> EvaluationResult          evaluate a model on the shard
    POST /ballots
         RequestVote -> VoteResult                  vote on a new aggregator

Control plane -> aggregator:

    POST /trainings
         InitTraining -> InitTrainingResult         create or restore the global model
    POST /initial-models
         ImportModel -> ImportModelResult           store an exported model to begin from
    POST /rounds/aggregate
         AggregateRound -> AggregateReport          start to collect updates
    POST /trainings/{t}/rounds/{n}/drop
         DropWorkers -> AggregateReport             do not wait for these workers
    POST /predictions
         PredictTexts -> PredictionResult           split texts over the workers
    POST /exports
         ExportModel -> ExportResult                write the model to /export/<name>
    POST /graphs/write
         WriteGraphs -> WrittenGraphs               write a global model's graphs at the aggregator
    POST /graphs/fetch
         FetchGraphs -> WrittenGraphs               fetch them at a worker

Aggregator -> worker:

    POST /scores
         ScoreUpdates -> ScoreResult                score updates, as a member of the committee
    POST /audits
         AuditSegment -> AuditResult                repeat a part of the round
    GET  /trainings/{t}/rounds/{n}/evidence/{name}
         -> safetensors body                        fetch a state that an audit has recorded
    POST /trainings/{t}/rounds/{n}/fallback
         FallBackToStar -> StopResult               leave the exchange, send the update
    POST /inferences
         InferTexts -> InferenceResult              compute probabilities for texts

Worker -> aggregator:

    PUT  /trainings/{t}/rounds/{n}/updates/{node}
         safetensors body -> UploadResult           send an update
    POST /trainings/{t}/rounds/{n}/exchanged
         ExchangeResult -> UploadResult             report the result of an exchange
    GET  /trainings/{t}/rounds/{n}/model?wait=20
         -> safetensors body                        fetch the round's new model (204: ask again)
    POST /trainings/{t}/rounds/{n}/secure/{phase}?wait=10
         see secure_aggregation.py                  take part in a secure sum

Any agent -> any agent:

    GET  /trainings/{t}/graphs/{name}
         -> file body                               fetch a graph of a global model
    GET  /models/{digest}?wait=20
         -> safetensors body                        fetch a model by its SHA-256 digest
    GET  /trainings/{t}/rounds/{n}/parts/{name}?wait=20
         -> file body                               worker to worker: fetch a part (404: ask again)

An `AggregateRound` with `synchronous` set trains synchronously: synchronous.py has its routes.
"""
