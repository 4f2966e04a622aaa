"""mkdocs hooks: pages that are generated, and links that leave docs/."""

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import api_page
import catalogue_pages
import commands_page

_ROOT = Path(__file__).resolve().parents[2]
# Pages of the project that lie outside docs/, by their place on the site.
_PROJECT = {
    "project/SECURITY.md": "deploy/SECURITY.md",
    "project/PRIVACY.md": "deploy/PRIVACY.md",
    "project/tls.md": "deploy/tls/README.md",
    "project/CONTRIBUTING.md": "CONTRIBUTING.md",
    "project/CHANGELOG.md": "CHANGELOG.md",
}


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the generated pages and those of the project."""
    for place, source in _PROJECT.items():
        files.append(File.generated(config, place, content=(_ROOT / source).read_text()))
    files.append(File.generated(config, "reference/commands.md", content=commands_page.render()))
    files.append(File.generated(config, "reference/errors.md", content=catalogue_pages.render_errors()))
    files.append(File.generated(config, "reference/events.md", content=catalogue_pages.render_events()))
    document = _ROOT / "openapi.json"
    files.append(File.generated(config, "reference/api.md", content=api_page.render(document)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links between docs/ and the rest of the project point to the pages of the site."""
    place = Path(page.file.src_uri)
    up = "../" * (len(place.parts) - 1)
    if place.parts[0] == "project":
        source = Path(_PROJECT[page.file.src_uri]).parent
        back = "../" * len(source.parts)
        markdown = markdown.replace(f"]({back}docs/", f"]({up}")
        links = {f"]({back}{target}": f"]({up}{there}" for there, target in _PROJECT.items()}
    else:
        links = {f"](../{up}{target}": f"]({up}{there}" for there, target in _PROJECT.items()}
        markdown = markdown.replace("[README](../README.md)", "README")
    for old, new in links.items():
        markdown = markdown.replace(old, new)
    return markdown
