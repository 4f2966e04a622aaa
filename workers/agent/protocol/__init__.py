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
