"""`flow-nexus neural search`."""

import inspect
import json
from typing import Annotated, Any

import typer

from api.cli.errors import FAILURE, UsageError
from api.cli.http.client import api_path
from api.cli.ids import id_option
from api.cli.output import views, watch
from api.cli.parameters import Limit
from api.cli.responses import SearchJson
from api.cli.session import Session, common_options, failed, given, with_session

app = typer.Typer(help="Search for the best options of a training.", no_args_is_help=True, add_completion=False)

ClusterId = Annotated[
    str | None, typer.Option("--cluster", "--cluster-id", help="The cluster, for example cls_9x7k3m2p.", metavar="ID")
]
SearchId = Annotated[str, id_option("--search-id", "search", "search_k2j9x4m7q1")]


def search(  # noqa: PLR0913 - Typer makes each flag from a parameter
    session: Session,
    cluster_id: ClusterId = None,
    dataset: Annotated[str | None, typer.Option(help="Path or pattern in each worker's sandbox: '/data/train_*.json'")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each training.")] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(help="Values of an option: learning-rate=0.001,0.0003 (repeatable).", metavar="OPTION=A,B"),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range", help="With --random: learning-rate=1e-5:1e-2:log (repeatable).", metavar="OPTION=MIN:MAX[:log]"
        ),
    ] = None,
    random: Annotated[int | None, typer.Option(help="Train N random combinations instead of all.", metavar="N")] = None,
    fixed: Annotated[
        list[str] | None, typer.Option("--set", help="An option that all trainings share (repeatable).", metavar="OPTION=VALUE")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="validation_accuracy|global_loss|…", help="Ranks the trainings.")
    ] = None,
    early_stopping: Annotated[str | None, typer.Option(metavar="none|median", help="End bad trainings early.")] = None,
    grace_epochs: Annotated[int | None, typer.Option(help="No training ends early before this many epochs.")] = None,
    grace_trainings: Annotated[
        int | None, typer.Option(help="No training ends early before this many others can be compared with it.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the trainings and the draws.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Budget of all trainings together.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Time of the whole search.")] = None,
    follow: Annotated[bool, typer.Option("--watch", help="Follow the search until it has ended.")] = False,
) -> None:
    """Train with each combination of --grid and --range, one after the other, and find the best."""
    for option, value in (("--cluster", cluster_id), ("--dataset", dataset), ("--epochs", epochs)):
        if value is None:
            raise UsageError(f"a search needs {option}")
    shared = dict(_assigned(text) for text in fixed or ())
    body = given(
        dataset=dataset,
        epochs=epochs,
        method=None if random is None else "random",
        max_trainings=random,
        metric=metric,
        early_stopping=early_stopping,
        grace_epochs=grace_epochs,
        grace_trainings=grace_trainings,
        seed=seed,
        budget_usd=budget_usd,
        max_minutes=max_minutes,
    )
    body |= {name: _value(text) for name, text in shared.items()} | {"space": _space(grid or [], ranges or [])}
    created = session.client.post(api_path("clusters", str(cluster_id), "searches"), SearchJson, body)
    if not follow:
        session.show(created, views.search)
    elif failed(watch.watch_search(session, created.value.search_id).status):
        raise typer.Exit(FAILURE)


_begin = with_session(search)
_COMMON = tuple(inspect.signature(common_options).parameters)[1:]


def _search_or_subcommand(context: typer.Context, **values: Any) -> None:
    """Begin a search, unless a subcommand follows. Then take only the common options."""
    if context.invoked_subcommand is None:
        _begin(context, **values)
    else:
        common_options(context, **{name: values[name] for name in _COMMON})


_search_or_subcommand.__signature__ = inspect.signature(_begin)  # type: ignore[attr-defined]
_search_or_subcommand.__annotations__ = dict(_begin.__annotations__)
app.callback(invoke_without_command=True, help=search.__doc__)(_search_or_subcommand)


@app.command("list")
@with_session
def list_searches(
    session: Session,
    cluster_id: Annotated[
        str | None, typer.Option("--cluster", "--cluster-id", help="Only searches of this cluster.", metavar="ID")
    ] = None,
    status: Annotated[str | None, typer.Option(help="Only searches with this status.", metavar="running|completed|…")] = None,
    limit: Limit = None,
) -> None:
    """List searches."""
    query = given(cluster_id=cluster_id, status=status)
    session.show(session.client.items(api_path("searches"), SearchJson, query, limit), views.searches)


@app.command("status")
@with_session
def show_status(
    session: Session,
    search_id: SearchId,
    follow: Annotated[bool, typer.Option("--watch", help="Follow the search until it has ended.")] = False,
) -> None:
    """Show the trainings of a search and the best of them."""
    if not follow:
        session.show(session.client.get(api_path("searches", search_id), SearchJson), views.search)
    elif failed(watch.watch_search(session, search_id).status):
        raise typer.Exit(FAILURE)


@app.command("stop")
@with_session
def stop(session: Session, search_id: SearchId) -> None:
    """Stop a search. Its trainings and their metrics stay."""
    session.show(session.client.post(api_path("searches", search_id, "stop"), SearchJson), views.search)


def _space(grid: list[str], ranges: list[str]) -> dict[str, object]:
    """Return the space of the request from the flags --grid and --range."""
    space: dict[str, object] = {}
    for text in grid:
        name, values = _assigned(text)
        space[name] = [_value(value) for value in values.split(",")]
    for text in ranges:
        name, values = _assigned(text)
        low, _, rest = values.partition(":")
        high, _, scale = rest.partition(":")
        if not high:
            raise UsageError(f"--range {text}: write OPTION=MIN:MAX or OPTION=MIN:MAX:log")
        space[name] = {"min": _value(low), "max": _value(high), **({"scale": scale} if scale else {})}
    if not space:
        raise UsageError("nothing to search: give --grid OPTION=A,B or --random N with --range OPTION=MIN:MAX")
    return space


def _assigned(text: str) -> tuple[str, str]:
    """Split OPTION=VALUE into the option's name in the request and the value."""
    name, sign, value = text.partition("=")
    if not sign or not name or not value:
        raise UsageError(f"{text}: write OPTION=VALUE")
    return name.replace("-", "_"), value


def _value(text: str) -> bool | int | float | str | None:
    """Parse a number, true, false or null in JSON. Return any other text as it is."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if value is None or isinstance(value, bool | int | float | str) else text
