"""The steps of a walkthrough: cluster, nodes, data, training, test, export, termination."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from api.cli.errors import CliError
from api.cli.http.client import ApiClient, api_path
from api.cli.http.download import save
from api.cli.http.transfer import Content, check_upload
from api.cli.output import printing
from api.cli.responses import (
    ClusterJson,
    ClusterStatusJson,
    ConnectionsJson,
    ModelJson,
    NodeJson,
    PredictionJson,
    SandboxJson,
    TrainingJson,
    TrainingSessionJson,
)
from api.cli.walkthrough import progress
from api.cli.walkthrough.plan import Outcome, Plan
from api.cli.walkthrough.progress import reason
from api.cli.walkthrough.screen import Screen

_POLL_S: Final = 0.5
_START_WAIT_S: Final = 30
_RESULT_WAIT_S: Final = 600
_END_WAIT_S: Final = 60
_VALIDATION: Final = "/data/validation.json"
_TEST: Final = "/data/test.json"


class Walkthrough:
    """One run of a plan against a running service."""

    def __init__(self, screen: Screen, client: ApiClient, plan: Plan) -> None:
        self._screen = screen
        self._client = client
        self._plan = plan

    def run(self) -> Outcome:
        """Create a cluster, use it and terminate it; return what was measured.

        After a failure or Ctrl-C, the cluster is terminated too, also with `keep`.

        Raises:
            CliError: A step failed.
        """
        plan = self._plan
        with self._screen.step("creating a cluster", "cluster created"):
            cluster_id = self._client.post(
                api_path("clusters"), ClusterJson, {"name": plan.name, **plan.cluster}
            ).value.cluster_id
        try:
            outcome = self._use(cluster_id)
        except BaseException as error:
            self._end_after(error, cluster_id)
            raise
        if not plan.keep:
            self._end(cluster_id)
        return self._with_cost(outcome)

    def _use(self, cluster_id: str) -> Outcome:
        plan = self._plan
        *workers, server = self._deploy(cluster_id)
        with self._screen.step("connecting the nodes", "nodes connected"):
            self._client.post(api_path("clusters", cluster_id, "connect"), ConnectionsJson, _topology(plan))
        with self._screen.step("uploading the data", "data uploaded: a shard to each worker"):
            self._upload(workers, server)
        session = self._train(cluster_id)
        prediction = None if plan.files.test is None else self._predict(cluster_id)
        model = self._export(session.training_id)
        return Outcome(cluster_id, None, 0, session, prediction, model, plan.model_folder, None)

    def _deploy(self, cluster_id: str) -> list[str]:
        """Deploy the workers and then the parameter server; return their identifiers."""
        path, count = api_path("clusters", cluster_id, "nodes"), len(self._plan.files.shards)
        types = ["worker"] * count + ["parameter_server"]
        workers = f"{count} workers" if count > 1 else "a worker"
        done = f"{workers} and a parameter server run, each in its own sandbox"
        with self._screen.step(f"starting {workers} and a parameter server", done):
            bodies = ({"node_type": node_type, "model": self._plan.model, "template": "python"} for node_type in types)
            nodes = [self._client.post(path, NodeJson, body).value for body in bodies]
            for node in nodes:
                self._wait_until_running(node)
        return [node.node_id for node in nodes]

    def _wait_until_running(self, node: NodeJson) -> None:
        while node.status == "provisioning":
            time.sleep(_POLL_S)
            node = self._client.get(api_path("nodes", node.node_id), NodeJson).value
        if node.status != "running":
            raise CliError(f"{node.node_id} is {node.status}: {reason(node.error)}")

    def _upload(self, workers: Sequence[str], server: str) -> None:
        files = self._plan.files
        for number, (worker, shard) in enumerate(zip(workers, files.shards, strict=True), start=1):
            self._put(worker, f"/data/train_{number}.json", shard)
        for path, file in ((_VALIDATION, files.validation), (_TEST, files.test)):
            if file is not None:
                self._put(server, path, file)

    def _put(self, node_id: str, path: str, source: Path) -> None:
        content = Content(path=source)
        place = api_path("sandboxes", node_id, "files")
        stored = self._client.upload(place, {"path": path}, content.chunks, content.size, repeatable=True)
        check_upload(content, stored.value)

    def _train(self, cluster_id: str) -> TrainingSessionJson:
        body = {"dataset": "/data/train_*.json", **self._plan.training_options}
        path = api_path("clusters", cluster_id, "trainings")
        with self._screen.step("starting the training", "training started"):
            training = self._client.post(path, TrainingJson, body, wait=_START_WAIT_S).value
        return progress.follow(self._screen, self._client, cluster_id, training.training_id)

    def _predict(self, cluster_id: str) -> PredictionJson:
        with self._screen.step("predicting the test texts", "test texts predicted by the workers"):
            prediction = self._client.post_and_poll(
                api_path("clusters", cluster_id, "predictions"),
                PredictionJson,
                {"input_data": _TEST, "aggregation": "global"},
                wait=_RESULT_WAIT_S,
                pending="pending",
                location=lambda prediction: api_path("predictions", prediction.prediction_id),
            ).value
        if prediction.status != "completed" or prediction.results is None:
            raise CliError(f"the prediction is {prediction.status}: {reason(prediction.error)}")
        return prediction

    def _export(self, training_id: str) -> ModelJson:
        """Export the model and download it into the plan's folder."""
        with self._screen.step("exporting the model", f"model exported and downloaded to {self._plan.model_folder}"):
            model = self._client.post_and_poll(
                api_path("trainings", training_id, "exports"),
                ModelJson,
                {"name": self._plan.name},
                wait=_RESULT_WAIT_S,
                pending="pending",
                location=lambda model: api_path("models", model.model_id),
            ).value
            if model.status != "completed":
                raise CliError(f"the export is {model.status}: {reason(model.error)}")
            folder, overwrite = self._plan.model_folder, self._plan.overwrite
            with self._client.download(api_path("models", model.model_id, "download")) as response:
                save(response, self._plan.name, folder, folder=True, overwrite=overwrite, on_progress=lambda _bytes: None)
        return model

    def _end(self, cluster_id: str) -> None:
        path = api_path("clusters", cluster_id, "terminate")
        try:
            with self._screen.step("terminating the cluster", "cluster terminated"):
                self._client.post(path, ClusterJson, wait=_END_WAIT_S)
        except CliError as error:
            raise CliError(
                f"{cluster_id} could not be terminated: {error.message}; try `flow-nexus neural cluster terminate {cluster_id}`"
            ) from None

    def _end_after(self, error: BaseException, cluster_id: str) -> None:
        """End the cluster after a failure. The failure itself stays the reason of the exit."""
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        printing.note(f"{why}: terminating {cluster_id}")
        try:
            self._end(cluster_id)
        except CliError as second:
            printing.note(f"note: {second.message}")

    def _with_cost(self, outcome: Outcome) -> Outcome:
        """Add what is known only at the end: the whole cost, and the sandboxes that still run."""
        cluster = self._client.get(api_path("clusters", outcome.cluster_id, "status"), ClusterStatusJson).value
        nodes = self._client.items(api_path("clusters", outcome.cluster_id, "nodes"), NodeJson).value.items
        sandboxes = self._client.items(api_path("sandboxes"), SandboxJson, {"status": "running"}).value.items
        of_nodes = {node.node_id for node in nodes}
        running = sum(sandbox.node_id in of_nodes for sandbox in sandboxes)
        return replace(outcome, cluster_status=cluster.status, cost_usd=cluster.cost_usd, running=running)


def _topology(plan: Plan) -> dict[str, object]:
    return {name: value for name, value in plan.cluster.items() if name == "topology"}
