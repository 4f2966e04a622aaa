"""Following a cluster or a training until it has ended: a live picture for people, a line of JSON per change for programs."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
from rich.console import RenderableType
from rich.live import Live

from api.cli.errors import FAILURE, CliError
from api.cli.http import sse
from api.cli.http.client import ApiClient, api_path
from api.cli.output import live, printing, views
from api.cli.session import Session
from api.domain.status import ENDED_SEARCH, ENDED_TRAINING

Json = dict[str, Any]

POLL_S = 2.0
# Longer than the pause between two of the server's heartbeats.
QUIET_S = 30.0
_RECONNECT_S = 1.0
_RECONNECTS = 10


def watch_cluster(session: Session, cluster_id: str) -> Json:
    """Show the cluster's status every two seconds until none of its trainings runs; return the last one."""
    return _polled(session, api_path("clusters", cluster_id, "status"), live.picture, live.all_ended)


def watch_search(session: Session, search_id: str) -> Json:
    """Show a search every two seconds until it has ended; return the last one."""
    path = api_path("searches", search_id)
    return _polled(session, path, views.search, lambda answer: answer["status"] in ENDED_SEARCH)


def _polled(session: Session, path: str, picture: Callable[[Json], RenderableType], has_ended: Callable[[Json], bool]) -> Json:
    answer = session.client.get(path)
    if session.json:
        shown = None
        while True:
            if answer != shown:
                printing.write_json(answer, line=True)
                shown = answer
            if has_ended(answer):
                return answer
            time.sleep(POLL_S)
            answer = session.client.get(path)
    with Live(picture(answer), console=printing.console(), refresh_per_second=4) as screen:
        while not has_ended(answer):
            time.sleep(POLL_S)
            answer = session.client.get(path)
            screen.update(picture(answer))
    return answer


def watch_training(session: Session, training_id: str) -> Json:
    """Follow a training's events until it has ended; return the training."""
    training = session.client.get(api_path("trainings", training_id))
    if session.json:
        return _follow(session.client, training_id, _print)
    path = api_path("clusters", training["cluster_id"], "status")
    with Live(live.picture(session.client.get(path), training_id), console=printing.console(), refresh_per_second=4) as screen:

        def refresh(_event: sse.Event | None) -> None:
            screen.update(live.picture(session.client.get(path), training_id))

        training = _follow(session.client, training_id, refresh)
        screen.update(live.picture(session.client.get(path), training_id))
    return training


def _follow(client: ApiClient, training_id: str, seen: Callable[[sse.Event | None], None]) -> Json:
    """Pass on each event (None for a heartbeat), across broken connections, until the training has ended."""
    path, last_id, failures = api_path("trainings", training_id), None, 0
    while True:
        try:
            with client.events(f"{path}/events", last_id, QUIET_S) as chunks:
                for event in sse.parse(chunks):
                    failures = 0
                    seen(event)
                    if event is not None:
                        last_id = event.id or last_id
                    if event is not None and event.event.removeprefix("training.") in ENDED_TRAINING:
                        training = client.get(path)
                        # An old end, before a resume, is not the end.
                        if event.event == f"training.{training['status']}":
                            return training
            training = client.get(path)
            if training["status"] in ENDED_TRAINING:
                return training
        except httpx.ReadTimeout:
            continue
        except (httpx.HTTPError, CliError) as error:
            failures += 1
            if failures == _RECONNECTS or (isinstance(error, CliError) and error.exit_code != FAILURE):
                raise error if isinstance(error, CliError) else CliError("the event stream broke off again and again") from None
        time.sleep(_RECONNECT_S)


def _print(event: sse.Event | None) -> None:
    if event is None:
        return
    try:
        data = json.loads(event.data)
    except ValueError:
        data = event.data
    printing.write_json({"id": event.id, "event": event.event, "data": data}, line=True)
