"""`flow-nexus demo`: the whole walkthrough on the embedded stack, through the HTTP API, on real text."""

import json
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from api.cli.config import Target
from api.cli.errors import CliError, UsageError
from api.cli.http.client import ApiClient, Json, api_path
from api.cli.output import printing
from api.embedded.stack import EmbeddedStack

WORKERS = 4
_POLL_S = 0.5
_LONGEST_TRAINING_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Data:
    shards: tuple[Path, ...]
    validation: Path
    test: Path


def demo(
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="epochs of local training, one a round")] = 8,
    samples: Annotated[int, typer.Option(min=50, max=100_000, help="generated samples in each worker's shard")] = 2500,
    data: Annotated[
        Path | None,
        typer.Option(help="folder with train_shard_1..4.json, validation.json and test.json, instead of generated feedback"),
    ] = None,
    home: Annotated[Path, typer.Option(help="folder for the stack's state and the trained model")] = Path(".demo"),
    topology: Annotated[str, typer.Option(help="mesh, ring, star or hierarchical")] = "mesh",
    consensus: Annotated[str, typer.Option(help="none, proof-of-learning, byzantine, gossip or raft")] = "none",
) -> None:
    """Start everything, train over 4 workers and a parameter server, predict, export, and stop everything."""
    console = printing.console()
    started = time.monotonic()
    try:
        files = _given(data) if data else _generated(home / "data", samples)
        with EmbeddedStack(home / "stack", port=0) as stack:
            up_seconds = time.monotonic() - started
            console.print(f"[dim]the stack is up at {stack.url} after {up_seconds:.1f} s[/]")
            client = ApiClient(Target(stack.url, stack.api_key))
            summary = _walk(console, client, files, home, epochs, topology, consensus)
        summary["everything stopped after"] = f"{time.monotonic() - started:.1f} s"
    except CliError as error:
        printing.note(f"error: {error}")
        raise typer.Exit(error.exit_code) from error
    console.print()
    console.print(printing.facts((name, printing.cell(value)) for name, value in summary.items()))
    console.print("\nKeep the service running instead: [bold]flow-nexus up[/]")


def _given(folder: Path) -> _Data:
    shards = tuple(folder / f"train_shard_{number}.json" for number in range(1, WORKERS + 1))
    found = _Data(shards, folder / "validation.json", folder / "test.json")
    missing = [path.name for path in (*shards, found.validation, found.test) if not path.is_file()]
    if missing:
        raise UsageError(f"{folder} has no {', '.join(missing)}")
    return found


def _generated(folder: Path, samples: int) -> _Data:
    from api.sample_data.generator import Recipe, generate
    from api.sample_data.writer import write

    paths = write(folder, generate(Recipe(shards=WORKERS, samples=samples, test=1000, validation=500, seed=0)))
    shards = tuple(paths[f"shard_{number}"] for number in range(1, WORKERS + 1))
    return _Data(shards, paths["validation"], paths["test"])


def _walk(
    console: Console, client: ApiClient, files: _Data, home: Path, epochs: int, topology: str, consensus: str
) -> dict[str, Any]:
    with _step(console, "cluster created"):
        cluster = client.post(
            api_path("clusters"),
            {"name": "customer-feedback", "topology": topology, "architecture": "transformer", "consensus": consensus},
        )
    cluster_id = cluster["cluster_id"]
    try:
        return _on_cluster(console, client, cluster_id, files, home, epochs, topology)
    finally:
        with _step(console, "cluster terminated"):
            client.post(api_path("clusters", cluster_id, "terminate"), wait=60)
        left = client.items(api_path("sandboxes"), {"status": "running"})["items"]
        console.print(f"[dim]sandboxes still running: {len(left)}[/]")


def _on_cluster(
    console: Console, client: ApiClient, cluster_id: str, files: _Data, home: Path, epochs: int, topology: str
) -> dict[str, Any]:
    with _step(console, f"{WORKERS} workers and a parameter server deployed, each in its own sandbox"):
        nodes = [_deploy(client, cluster_id, "worker") for _ in range(WORKERS)]
        nodes.append(_deploy(client, cluster_id, "parameter_server"))
        nodes = [_running(client, node) for node in nodes]
    *workers, server = [node["node_id"] for node in nodes]
    with _step(console, f"connected as a {topology}"):
        client.post(api_path("clusters", cluster_id, "connect"), {"topology": topology})
    with _step(console, "a shard uploaded to each worker, a validation and a test file to the parameter server"):
        for number, (worker, shard) in enumerate(zip(workers, files.shards, strict=True), start=1):
            _upload(client, worker, f"/data/train_shard_{number}.json", shard)
        _upload(client, server, "/data/validation.json", files.validation)
        _upload(client, server, "/data/test.json", files.test)
    training = client.post(
        api_path("clusters", cluster_id, "trainings"),
        {"dataset": "/data/train_*.json", "epochs": epochs, "batch_size": 32, "learning_rate": 0.001, "optimizer": "adam"},
        wait=30,
    )
    session = _watch(console, client, cluster_id, training["training_id"])
    with _step(console, "test texts predicted by all workers together"):
        prediction = client.post(
            api_path("clusters", cluster_id, "predictions"),
            {"input_data": "/data/test.json", "aggregation": "ensemble"},
            wait=120,
            pending=frozenset({"pending"}),
            then=lambda row: api_path("predictions", row["prediction_id"]),
        )
    if prediction["status"] != "completed":
        raise CliError(f"the prediction is {prediction['status']}: {prediction.get('error')}")
    with _step(console, "model exported and downloaded"):
        model = client.post(
            api_path("trainings", training["training_id"], "exports"),
            {"name": "feedback_model_v1.0"},
            wait=120,
            pending=frozenset({"pending"}),
            then=lambda row: api_path("models", row["model_id"]),
        )
        folder = _download(client, model["model_id"], home / "model")
    status = client.get(api_path("clusters", cluster_id, "status"))
    example = prediction["results"]["predictions"][0]
    return {
        "test accuracy": f"{prediction['results']['accuracy']:.1%} on {len(prediction['results']['predictions'])} texts",
        "validation accuracy": f"{session['metrics']['validation_accuracy']:.1%}",
        "training": f"{session['epoch']} epochs in {session['time_elapsed']}",
        "prediction": f"{prediction['inference_time']} on {prediction['nodes_used']} nodes",
        "for example": f"“{example['text']}” is {example['sentiment']} ({example['confidence']:.0%})",
        "cost": f"${status['cost_usd']:.4f} in all, ${session['cost_per_epoch_usd']:.4f} per epoch,"
        f" ${session['cost_per_accuracy_point_usd']:.4f} per accuracy point of the training",
        "model": str(folder),
    }


def _deploy(client: ApiClient, cluster_id: str, node_type: str) -> Json:
    return client.post(
        api_path("clusters", cluster_id, "nodes"), {"node_type": node_type, "model": "base", "template": "python"}
    )


def _running(client: ApiClient, node: Json) -> Json:
    path = api_path("nodes", node["node_id"])
    while node["status"] == "provisioning":
        time.sleep(_POLL_S)
        node = client.get(path)
    if node["status"] != "running":
        raise CliError(f"{node['node_id']} is {node['status']}: {node.get('error')}")
    return node


def _upload(client: ApiClient, node_id: str, path: str, source: Path) -> None:
    def chunks() -> Iterator[bytes]:
        with source.open("rb") as file:
            while chunk := file.read(256 * 1024):
                yield chunk

    client.upload(api_path("sandboxes", node_id, "files"), {"path": path}, chunks, source.stat().st_size, repeatable=True)


def _watch(console: Console, client: ApiClient, cluster_id: str, training_id: str) -> Json:
    """Show the training's rounds until it ends; return its last status."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    path = api_path("clusters", cluster_id, "status")
    end = time.monotonic() + _LONGEST_TRAINING_S
    # Where nobody watches a bar (a pipe, a log) the lines alone tell the story.
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("training", total=None, state="")
        shown = -1
        while time.monotonic() < end:
            sessions = client.get(path)["training_sessions"]
            session: Json = next(item for item in sessions if item["training_id"] == training_id)
            if session["epoch"] != shown:
                shown = session["epoch"]
                progress.update(bar, total=session["total_epochs"], completed=shown, state=_state(session))
                if shown:
                    progress.console.print(f"  {_state(session)}", soft_wrap=True)
            if session["status"] == "completed":
                return session
            if session["status"] not in ("pending", "training"):
                raise CliError(f"the training is {session['status']}: {json.dumps(session.get('error'))}")
            time.sleep(_POLL_S)
    raise CliError("the training did not end in time")


def _state(session: Json) -> str:
    if not session["epoch"]:
        return "workers are training"
    metrics = session["metrics"]
    losses = " ".join(
        "–" if item["local_loss"] is None else f"{item['local_loss']:.3f}" for item in session["workers"].values()
    )
    left = session["estimated_completion"] or "–"
    return (
        f"epoch {session['epoch']}/{session['total_epochs']}  validation {metrics['validation_accuracy']:.1%}"
        f"  worker losses {losses}  left {left}"
    )


def _download(client: ApiClient, model_id: str, folder: Path) -> Path:
    """Fetch the archive and unpack it; returns the model's own folder."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{model_id}.tar"
    with client.download(api_path("models", model_id, "download")) as response, archive.open("wb") as file:
        for chunk in response.iter_bytes():
            file.write(chunk)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        top = Path(tar.getnames()[0]).parts[0]
    archive.unlink()
    return folder / top


@contextmanager
def _step(console: Console, done: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    console.print(f"[green]✓[/] {done} [dim]{time.monotonic() - started:.1f} s[/]", soft_wrap=True)
