"""`flow-nexus dashboard`: the link to the dashboard, with the key."""

import webbrowser
from typing import Annotated
from urllib.parse import quote

import typer
from rich.text import Text

from api.cli.errors import UsageError
from api.cli.session import Session, with_session


def dashboard_link(url: str, api_key: str) -> str:
    """Return the address of the dashboard. The key is in the fragment, which no server sees."""
    return f"{url}/dashboard/#key={quote(api_key, safe='')}"


@with_session
def dashboard(
    session: Session,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the link in a browser. Process lists may show it, and so the key.")
    ] = False,
) -> None:
    """Print the link to the dashboard. It signs in with the key of this command.

    Raises:
        UsageError: There is no key, or no browser.
    """
    target = session.target
    if target.api_key is None:
        raise UsageError("there is no API key; set FLOW_NEXUS_API_KEY or start the service in this folder")
    link = dashboard_link(target.url, target.api_key)
    session.show_local({"url": link}, lambda: Text(link, overflow="ignore", no_wrap=True))
    if open_browser and not webbrowser.open(link):
        raise UsageError("no browser could be opened; open the printed link yourself")
