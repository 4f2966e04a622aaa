"""`flow-nexus demo`: a complete training with prediction and export, on the embedded stack."""

import tarfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from api.cli.config import Target
from api.cli.errors import CliError, UsageError
from api.cli.http.client import ApiClient, api_path
from api.cli.output import printing
from api.cli.responses import (
    ClusterJson,
    ClusterStatusJson,
    ConnectionsJson,
    ModelJson,
    NodeJson,
    PredictionJson,
    Reason,
    SandboxJson,
    TrainingJson,
    TrainingSessionJson,
)
from api.embedded.stack import EmbeddedStack

WORKERS = 4
_POLL_S = 0.5
_LONGEST_TRAINING_S = 3600.0


@dataclass(frozen=True, slots=True)
class _DataFiles:
    shards: tuple[Path, ...]
    validation: Path
    test: Path


@dataclass(frozen=True, slots=True)
class _Plan:
    files: _DataFiles
    model_folder: Path
    epochs: int
    topology: str
    consensus: str


def demo(
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="The number of epochs. Each round has one.")] = 8,
    samples: Annotated[int, typer.Option(min=50, max=100_000, help="The number of generated samples for each worker.")] = 2500,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder with train_shard_1..4.json, validation.json and test.json. Default: generated data."),
    ] = None,
    home: Annotated[Path, typer.Option(help="The folder for the state of the stack and the trained model.")] = Path(".demo"),
    topology: Annotated[str, typer.Option(help="One of: mesh, ring, star, hierarchical.")] = "mesh",
    consensus: Annotated[str, typer.Option(help="One of: none, proof-of-learning, byzantine, gossip, raft.")] = "none",
) -> None:
    """Start the stack, train on 4 workers and a parameter server, predict, export and stop."""
    console = printing.console()
    started = time.monotonic()
    try:
        files = _existing(data) if data else _generated(home / "data", samples)
        plan = _Plan(files, home / "model", epochs, topology, consensus)
        with EmbeddedStack(home / "stack", port=0) as stack:
            up_seconds = time.monotonic() - started
            console.print(f"[dim]the stack is up at {stack.url} after {up_seconds:.1f} s[/]")
            with closing(ApiClient(Target(stack.url, stack.api_key))) as client:
                summary = _Demo(console, client, plan).run()
        summary["everything stopped after"] = f"{time.monotonic() - started:.1f} s"
    except CliError as error:
        printing.note(f"error: {error}")
        raise typer.Exit(error.exit_code) from error
    console.print()
    console.print(printing.facts((name, printing.cell(value)) for name, value in summary.items()))
    console.print("\nKeep the service running instead: [bold]flow-nexus up[/]")


def _existing(folder: Path) -> _DataFiles:
    shards = tuple(folder / f"train_shard_{number}.json" for number in range(1, WORKERS + 1))
    files = _DataFiles(shards, folder / "validation.json", folder / "test.json")
    missing = [path.name for path in (*shards, files.validation, files.test) if not path.is_file()]
    if missing:
        raise UsageError(f"{folder} has no {', '.join(missing)}")
    return files


def _generated(folder: Path, samples: int) -> _DataFiles:
    from api.sample_data.generator import Recipe, generate
    from api.sample_data.writer import write

    paths = write(folder, generate(Recipe(shards=WORKERS, samples=samples, test=1000, validation=500, seed=0)))
    shards = tuple(paths[f"shard_{number}"] for number in range(1, WORKERS + 1))
    return _DataFiles(shards, paths["validation"], paths["test"])


class _Demo:
    """One run of the plan against a running stack."""

    def __init__(self, console: Console, client: ApiClient, plan: _Plan) -> None:
        self._console = console
        self._client = client
        self._plan = plan

    def run(self) -> dict[str, str]:
        """Create a cluster, use it, terminate it; return the lines of the summary."""
        plan = self._plan
        body = {
            "name": "customer-feedback",
            "topology": plan.topology,
            "architecture": "transformer",
            "consensus": plan.consensus,
        }
        with self._step("cluster created"):
            cluster_id = self._client.post(api_path("clusters"), ClusterJson, body).value.cluster_id
        try:
            return self._use(cluster_id)
        finally:
            with self._step("cluster terminated"):
                self._client.post(api_path("clusters", cluster_id, "terminate"), ClusterJson, wait=60)
            running = self._client.items(api_path("sandboxes"), SandboxJson, {"status": "running"}).value.items
            self._console.print(f"[dim]sandboxes still running: {len(running)}[/]")

    def _use(self, cluster_id: str) -> dict[str, str]:
        plan = self._plan
        *workers, server = self._deploy(cluster_id)
        with self._step(f"connected as a {plan.topology}"):
            self._client.post(api_path("clusters", cluster_id, "connect"), ConnectionsJson, {"topology": plan.topology})
        with self._step("a shard uploaded to each worker, a validation and a test file to the parameter server"):
            for number, (worker, shard) in enumerate(zip(workers, plan.files.shards, strict=True), start=1):
                self._upload(worker, f"/data/train_shard_{number}.json", shard)
            self._upload(server, "/data/validation.json", plan.files.validation)
            self._upload(server, "/data/test.json", plan.files.test)
        training = self._train(cluster_id)
        session = _watch(self._console, self._client, cluster_id, training.training_id)
        prediction = self._predict(cluster_id)
        with self._step("model exported and downloaded"):
            folder = self._export(training.training_id)
        status = self._client.get(api_path("clusters", cluster_id, "status"), ClusterStatusJson).value
        return {**_summary(prediction, session, status), "model": str(folder)}

    def _deploy(self, cluster_id: str) -> list[str]:
        """Deploy the workers and then the parameter server; return their identifiers."""
        path = api_path("clusters", cluster_id, "nodes")
        types = ["worker"] * WORKERS + ["parameter_server"]
        with self._step(f"{WORKERS} workers and a parameter server deployed, each in its own sandbox"):
            bodies = ({"node_type": node_type, "model": "base", "template": "python"} for node_type in types)
            nodes = [self._client.post(path, NodeJson, body).value for body in bodies]
            for node in nodes:
                self._wait_until_running(node)
        return [node.node_id for node in nodes]

    def _wait_until_running(self, node: NodeJson) -> None:
        while node.status == "provisioning":
            time.sleep(_POLL_S)
            node = self._client.get(api_path("nodes", node.node_id), NodeJson).value
        if node.status != "running":
            raise CliError(f"{node.node_id} is {node.status}: {_reason(node.error)}")

    def _upload(self, node_id: str, path: str, source: Path) -> None:
        def chunks() -> Iterator[bytes]:
            with source.open("rb") as file:
                while chunk := file.read(256 * 1024):
                    yield chunk

        size = source.stat().st_size
        self._client.upload(api_path("sandboxes", node_id, "files"), {"path": path}, chunks, size, repeatable=True)

    def _train(self, cluster_id: str) -> TrainingJson:
        body = {
            "dataset": "/data/train_*.json",
            "epochs": self._plan.epochs,
            "batch_size": 32,
            "learning_rate": 0.001,
            "optimizer": "adam",
        }
        return self._client.post(api_path("clusters", cluster_id, "trainings"), TrainingJson, body, wait=30).value

    def _predict(self, cluster_id: str) -> PredictionJson:
        with self._step("test texts predicted by all workers together"):
            prediction = self._client.post_and_poll(
                api_path("clusters", cluster_id, "predictions"),
                PredictionJson,
                {"input_data": "/data/test.json", "aggregation": "ensemble"},
                wait=120,
                pending="pending",
                location=lambda prediction: api_path("predictions", prediction.prediction_id),
            ).value
        if prediction.status != "completed":
            raise CliError(f"the prediction is {prediction.status}: {_reason(prediction.error)}")
        return prediction

    def _export(self, training_id: str) -> Path:
        """Export and download the model; return its folder."""
        model = self._client.post_and_poll(
            api_path("trainings", training_id, "exports"),
            ModelJson,
            {"name": "feedback_model_v1.0"},
            wait=120,
            pending="pending",
            location=lambda model: api_path("models", model.model_id),
        ).value
        return _download(self._client, model.model_id, self._plan.model_folder)

    @contextmanager
    def _step(self, done: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._console.print(f"[green]✓[/] {done} [dim]{time.monotonic() - started:.1f} s[/]", soft_wrap=True)


def _summary(prediction: PredictionJson, session: TrainingSessionJson, status: ClusterStatusJson) -> dict[str, str]:
    results = prediction.results
    if results is None or not results.predictions:
        raise CliError("the prediction has no results")
    example = results.predictions[0]
    costs = (
        f"{_usd(status.cost_usd)} in all, {_usd(session.cost_per_epoch_usd)} per epoch",
        f"{_usd(session.cost_per_accuracy_point_usd)} per accuracy point of the training",
    )
    return {
        "test accuracy": f"{_percent(results.accuracy)} on {len(results.predictions)} texts",
        "validation accuracy": _percent(session.metrics.validation_accuracy),
        "training": f"{session.epoch} epochs in {session.time_elapsed}",
        "prediction": f"{prediction.inference_time} on {prediction.nodes_used} nodes",
        "for example": f"“{example.text}” is {example.sentiment} ({example.confidence or 0:.0%})",
        "cost": ", ".join(costs),
    }


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _usd(amount: float | None) -> str:
    return "–" if amount is None else f"${amount:.4f}"


def _reason(error: Reason | None) -> str:
    return f"{error.detail} ({error.code})" if error else "no reason given"


def _watch(console: Console, client: ApiClient, cluster_id: str, training_id: str) -> TrainingSessionJson:
    """Show the rounds of the training until it ends; return its last status."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    path = api_path("clusters", cluster_id, "status")
    deadline = time.monotonic() + _LONGEST_TRAINING_S
    # A pipe or a log shows no bar: there, only the lines show the progress.
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("training", total=None, state="")
        shown = -1
        while time.monotonic() < deadline:
            sessions = client.get(path, ClusterStatusJson).value.training_sessions
            session = next(session for session in sessions if session.training_id == training_id)
            if session.epoch != shown:
                shown = session.epoch
                progress.update(bar, total=session.total_epochs, completed=shown, state=_state(session))
                if shown:
                    progress.console.print(f"  {_state(session)}", soft_wrap=True)
            if session.status == "completed":
                return session
            if session.status not in ("pending", "training"):
                raise CliError(f"the training is {session.status}: {_reason(session.error)}")
            time.sleep(_POLL_S)
    raise CliError("the training did not end in time")


def _state(session: TrainingSessionJson) -> str:
    if not session.epoch:
        return "workers are training"
    losses = " ".join("–" if worker.local_loss is None else f"{worker.local_loss:.3f}" for worker in session.workers.values())
    return (
        f"epoch {session.epoch}/{session.total_epochs}  validation {_percent(session.metrics.validation_accuracy)}"
        f"  worker losses {losses}  left {session.estimated_completion or '–'}"
    )


def _download(client: ApiClient, model_id: str, folder: Path) -> Path:
    """Download the archive and unpack it; return the folder of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{model_id}.tar"
    with client.download(api_path("models", model_id, "download")) as response, archive.open("wb") as file:
        for chunk in response.iter_bytes():
            file.write(chunk)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        root = Path(tar.getnames()[0]).parts[0]
    archive.unlink()
    return folder / root
