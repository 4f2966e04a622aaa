"""The routes for the control plane."""

import asyncio
import os
import time

import torch
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from workers.agent.protocol.admin import AgentHealth
from workers.agent.protocol.aggregation import AggregateReport, AggregateRound, DropWorkers
from workers.agent.protocol.common import StopResult
from workers.agent.protocol.consensus import RequestVote
from workers.agent.protocol.exports import ExportModel, ExportResult
from workers.agent.protocol.graphs import FetchGraphs, WriteGraphs
from workers.agent.protocol.inference import (
    DescribeInput,
    EvaluateModel,
    InputDescription,
    PredictionProgress,
    PredictionResult,
    PredictTexts,
)
from workers.agent.protocol.training import CheckShard, EncodeShard, ImportModel, InitTraining, ReplicateModel, TrainRound
from workers.agent.runtime import process
from workers.agent.runtime.errors import AgentError
from workers.agent.server.parts import AgentParts
from workers.agent.server.responses import json_response, posted, read_message, round_of, wait_seconds
from workers.agent.serving import input_file
from workers.agent.serving.export import export

_CHECK_WAIT_S = 20.0


class ControlRoutes:
    def __init__(self, parts: AgentParts) -> None:
        self._parts = parts
        self._started = time.monotonic()

    def for_control_plane(self) -> list[Route]:
        parts, round_path = self._parts, "/trainings/{training_id}/rounds/{number:int}"
        return [
            Route("/health", self._health),
            Route("/shards/check", self._check_shard, methods=["POST"]),
            Route("/shards/encode", self._encode_shard, methods=["POST"]),
            Route("/trainings", posted(InitTraining, parts.aggregator.init), methods=["POST"]),
            Route("/initial-models", posted(ImportModel, parts.aggregator.import_model), methods=["POST"]),
            Route("/rounds/aggregate", posted(AggregateRound, self._aggregate), methods=["POST"]),
            Route("/rounds/train", self._train, methods=["POST"]),
            Route(round_path, self._report),
            Route(f"{round_path}/drop", self._drop, methods=["POST"]),
            Route("/models", posted(ReplicateModel, parts.fetcher.replicate_model), methods=["POST"]),
            Route("/evaluations", posted(EvaluateModel, parts.evaluator.evaluate), methods=["POST"]),
            Route("/ballots", posted(RequestVote, parts.voter.vote), methods=["POST"]),
            Route("/predictions", posted(PredictTexts, self._predict), methods=["POST"]),
            Route("/predictions/{prediction_id}", self._prediction_progress),
            Route("/predictions/{prediction_id}/cancel", self._cancel_prediction, methods=["POST"]),
            Route("/inputs/describe", posted(DescribeInput, self._describe_input), methods=["POST"]),
            Route("/exports", posted(ExportModel, self._export), methods=["POST"]),
            Route("/graphs/write", posted(WriteGraphs, parts.graph_preparer.write), methods=["POST"]),
            Route("/graphs/fetch", posted(FetchGraphs, parts.graph_preparer.fetch), methods=["POST"]),
        ]

    def for_control_plane_and_aggregator(self) -> list[Route]:
        return [Route("/trainings/{training_id}/stop", self._stop, methods=["POST"])]

    async def _health(self, _: Request) -> Response:
        config = self._parts.config
        return json_response(
            AgentHealth(
                node_id=config.node_id,
                role=config.role,
                pid=os.getpid(),
                uptime_seconds=round(time.monotonic() - self._started, 3),
                threads=torch.get_num_threads(),
                cpu_cores=process.cpu_cores(),
                memory_gb=process.memory_gb(),
                rss_mb=process.rss_mb(),
                gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            )
        )

    async def _check_shard(self, request: Request) -> Response:
        check, wait_s = await read_message(CheckShard, request), wait_seconds(request, _CHECK_WAIT_S)
        return json_response(await self._parts.preparer.check(check, wait_s))

    async def _encode_shard(self, request: Request) -> Response:
        encode, wait_s = await read_message(EncodeShard, request), wait_seconds(request, _CHECK_WAIT_S)
        return json_response(await self._parts.preparer.encode(encode, wait_s))

    async def _aggregate(self, request: AggregateRound) -> AggregateReport:
        if request.synchronous is None:
            return await self._parts.aggregator.start(request)
        self._parts.aggregator.need_training(request.training_id)
        return await self._parts.coordinator.start(request, request.synchronous)

    async def _train(self, request: Request) -> Response:
        """Begin a worker's round. Answer once its report is settled, or after the wait."""
        train, wait_s = await read_message(TrainRound, request), wait_seconds(request)
        report = await self._parts.worker.start(train)
        return json_response(await self._parts.worker.settled(train, wait_s) if wait_s else report)

    async def _report(self, request: Request) -> Response:
        """Answer with the aggregator's or the worker's report on a round, once the round ends."""
        parts, wait_s = self._parts, wait_seconds(request)
        training_id, number = round_of(request)
        if request.query_params.get("role") == "aggregator":
            sync_round = parts.coordinator.find(training_id, number)
            if sync_round is not None:
                return json_response(await sync_round.report.when_ended(wait_s))
            return json_response(await parts.aggregator.report(training_id, number, wait_s))
        attempt = parts.sync_worker.find(training_id, number)
        if attempt is not None:
            return json_response(await attempt.report.when_ended(wait_s))
        return json_response(await parts.worker.report(training_id, number, wait_s))

    async def _drop(self, request: Request) -> Response:
        drop = await read_message(DropWorkers, request)
        training_id, number = round_of(request)
        sync_round = self._parts.coordinator.find(training_id, number)
        if sync_round is not None:
            sync_round.drop(drop.node_ids)
            return json_response(sync_round.report.current)
        return json_response(await self._parts.aggregator.drop(training_id, number, drop.node_ids))

    async def _stop(self, request: Request) -> Response:
        training_id, parts = request.path_params["training_id"], self._parts
        holders = (parts.worker, parts.aggregator, parts.sync_worker, parts.coordinator)
        stopped = [holder.stop(training_id) for holder in holders]
        # A cluster has one training at a time, so this is its preparation.
        stopped.append(parts.preparer.stop())
        return json_response(StopResult(stopped=any(stopped)))

    async def _predict(self, request: PredictTexts) -> PredictionResult:
        if request.input_data is not None:
            self._check_reads_files()
        return await self._parts.predictor.run(request)

    async def _describe_input(self, request: DescribeInput) -> InputDescription:
        self._check_reads_files()
        return await asyncio.to_thread(input_file.describe, self._parts.root, request.input_data)

    def _check_reads_files(self) -> None:
        """Predictions repeat their texts, and the control plane must not see a worker's data."""
        if self._parts.config.role != "aggregator":
            raise AgentError("not_an_aggregator", "only an aggregator reads files to predict on", 403)

    async def _prediction_progress(self, request: Request) -> Response:
        progress = self._parts.predictor.progress(request.path_params["prediction_id"])
        return json_response(PredictionProgress(progress=progress))

    async def _cancel_prediction(self, request: Request) -> Response:
        return json_response(StopResult(stopped=self._parts.predictor.cancel(request.path_params["prediction_id"])))

    async def _export(self, request: ExportModel) -> ExportResult:
        parts = self._parts
        temperature = await parts.calibrator.temperature(request)
        return await asyncio.to_thread(export, parts.root, parts.store, parts.cache, request, temperature)
