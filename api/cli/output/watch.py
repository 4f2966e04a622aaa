"""Follow a cluster, a search or a training until it has ended.

People see a live picture. Programs get one line of JSON for each change.
"""

import json
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from rich.console import RenderableType
from rich.live import Live

from api.cli.errors import FAILURE, CliError
from api.cli.http import sse
from api.cli.http.answer import Answer
from api.cli.http.client import ApiClient, api_path
from api.cli.output import live, printing, views
from api.cli.responses import ClusterStatusJson, SearchJson, TrainingJson
from api.cli.session import Session
from api.domain.status import ENDED_SEARCH, ENDED_TRAINING

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
    if session.json:
        return _follow(session.client, training_id, _print).value
    path = api_path("clusters", training.value.cluster_id or "", "status")

    def picture() -> RenderableType:
        return live.picture(session.client.get(path, ClusterStatusJson).value, training_id)

    with Live(picture(), console=printing.console(), refresh_per_second=4) as screen:
        training = _follow(session.client, training_id, lambda _event: screen.update(picture()))
        screen.update(picture())
    return training.value


def _follow(client: ApiClient, training_id: str, on_event: Callable[[sse.Event | None], None]) -> Answer[TrainingJson]:
    """Pass on each event, and None for a heartbeat, until the training has ended.

    A broken connection is opened again.
    """
    path, last_id, failures = api_path("trainings", training_id), None, 0
    while True:
        try:
            with client.events(f"{path}/events", last_id, QUIET_S) as chunks:
                for event in sse.parse(chunks):
                    failures = 0
                    on_event(event)
                    if event is None:
                        continue
                    last_id = event.id or last_id
                    if event.event.removeprefix("training.") in ENDED_TRAINING:
                        training = client.get(path, TrainingJson)
                        # An event from before a resume is not the end.
                        if event.event == f"training.{training.status}":
                            return training
            training = client.get(path, TrainingJson)
            if training.status in ENDED_TRAINING:
                return training
        except httpx.ReadTimeout:
            continue
        except (httpx.HTTPError, CliError) as error:
            failures += 1
            if failures == _RECONNECTS or (isinstance(error, CliError) and error.exit_code != FAILURE):
                raise error if isinstance(error, CliError) else CliError("the event stream broke off repeatedly") from None
        time.sleep(_RECONNECT_S)


def _print(event: sse.Event | None) -> None:
    if event is None:
        return
    try:
        data = json.loads(event.data)
    except ValueError:
        data = event.data
    printing.write_json({"id": event.id, "event": event.event, "data": data}, line=True)
