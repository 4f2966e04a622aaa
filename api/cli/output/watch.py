"""Follow a cluster, a search, a training or an execution until it has ended.

People see a live picture. Programs get one line of JSON for each change.
"""

import json
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

import httpx
from rich.console import RenderableType
from rich.live import Live

from api.cli.errors import FAILURE, CliError
from api.cli.http import sse
from api.cli.http.answer import Answer, parse
from api.cli.http.client import ApiClient, api_path
from api.cli.output import live, printing, views
from api.cli.responses import ClusterStatusJson, ExecutionJson, OutputJson, SearchJson, TrainingJson
from api.cli.session import Session
from api.domain.status import ENDED_EXECUTION, ENDED_SEARCH, ENDED_TRAINING

T = TypeVar("T")

POLL_S = 2.0
# Longer than the pause between two heartbeats of the server.
QUIET_S = 30.0
_RECONNECT_S = 1.0
_RECONNECTS = 10


def watch_cluster(session: Session, cluster_id: str) -> ClusterStatusJson:
    """Show the cluster's status every two seconds while a training runs; return the last status."""

    def get() -> Answer[ClusterStatusJson]:
        return session.client.get(api_path("clusters", cluster_id, "status"), ClusterStatusJson)

    return _poll(session, get, live.picture, live.all_ended).value


def watch_search(session: Session, search_id: str) -> SearchJson:
    """Show a search every two seconds until it has ended; return its last state."""

    def get() -> Answer[SearchJson]:
        return session.client.get(api_path("searches", search_id), SearchJson)

    return _poll(session, get, views.search, lambda search: search.status in ENDED_SEARCH).value


def _poll(
    session: Session,
    get: Callable[[], Answer[T]],
    picture: Callable[[T], RenderableType],
    has_ended: Callable[[T], bool],
) -> Answer[T]:
    answer = get()
    if session.json:
        printing.write_json(answer.json, line=True)
        while not has_ended(answer.value):
            time.sleep(POLL_S)
            previous, answer = answer, get()
            if answer.json != previous.json:
                printing.write_json(answer.json, line=True)
        return answer
    with Live(picture(answer.value), console=printing.console(), refresh_per_second=4) as screen:
        while not has_ended(answer.value):
            time.sleep(POLL_S)
            answer = get()
            screen.update(picture(answer.value))
    return answer


def watch_training(session: Session, training_id: str) -> TrainingJson:
    """Follow a training's events until it has ended; return the training."""
    training = session.client.get(api_path("trainings", training_id), TrainingJson)
    events = _Events(session.client, api_path("trainings", training_id), TrainingJson, "training", ENDED_TRAINING)
    if session.json:
        return events.follow(_print).value
    path = api_path("clusters", training.value.cluster_id or "", "status")

    def picture() -> RenderableType:
        return live.picture(session.client.get(path, ClusterStatusJson).value, training_id)

    with Live(picture(), console=printing.console(), refresh_per_second=4) as screen:
        training = events.follow(lambda _event: screen.update(picture()))
        screen.update(picture())
    return training.value


def watch_execution(session: Session, execution_id: str, *, follow: bool) -> ExecutionJson:
    """Print the output of an execution until it has ended, or so far; return the execution."""
    path = api_path("executions", execution_id)
    show = _print if session.json else _print_output
    if follow:
        return _Events(session.client, path, ExecutionJson, "execution", ENDED_EXECUTION).follow(show).value
    with session.client.events(f"{path}/events", None, QUIET_S, {"follow": "false"}) as chunks:
        for event in sse.parse(chunks):
            show(event)
    return session.client.get(path, ExecutionJson, {"tail_bytes": "0"}).value


@dataclass(frozen=True, slots=True)
class _Events(Generic[T]):
    """The events of a resource. `<noun>.<status>` with an ended status is the last one."""

    client: ApiClient
    path: str
    model: type[T]
    noun: str
    ended: Collection[str]

    def follow(self, on_event: Callable[[sse.Event | None], None]) -> Answer[T]:
        """Pass on each event, and None for a heartbeat, until the resource has ended.

        A broken connection is opened again.
        """
        last_id, failures = None, 0
        while True:
            try:
                with self.client.events(f"{self.path}/events", last_id, QUIET_S) as chunks:
                    for event in sse.parse(chunks):
                        failures = 0
                        on_event(event)
                        if event is None:
                            continue
                        last_id = event.id or last_id
                        if event.event.removeprefix(f"{self.noun}.") in self.ended:
                            answer = self.client.get(self.path, self.model)
                            # An event from before a resume is not the end.
                            if event.event == f"{self.noun}.{answer.status}":
                                return answer
                answer = self.client.get(self.path, self.model)
                if answer.status in self.ended:
                    return answer
            except httpx.ReadTimeout:
                continue
            except (httpx.HTTPError, CliError) as error:
                failures += 1
                if failures == _RECONNECTS or (isinstance(error, CliError) and error.exit_code != FAILURE):
                    raise error if isinstance(error, CliError) else CliError("the event stream broke off repeatedly") from None
            time.sleep(_RECONNECT_S)


def _print_output(event: sse.Event | None) -> None:
    """Print the text of an output event to the stream that it came from."""
    if event is None or event.event != "output":
        return
    output = parse(json.loads(event.data), OutputJson)
    stream = sys.stderr if output.stream == "stderr" else sys.stdout
    stream.write(output.text)
    stream.flush()


def _print(event: sse.Event | None) -> None:
    if event is None:
        return
    try:
        data = json.loads(event.data)
    except ValueError:
        data = event.data
    printing.write_json({"id": event.id, "event": event.event, "data": data}, line=True)
