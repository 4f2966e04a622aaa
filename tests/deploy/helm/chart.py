"""Manifests of the chart, as the tests read them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
COMPONENT = "app.kubernetes.io/component"
SANDBOX_HOST = "sandbox-host"


@dataclass(frozen=True)
class Rendered:
    name: str
    manifests: list[Manifest]

    def of_kind(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def one(self, kind: str, component: str) -> Manifest:
        (found,) = (manifest for manifest in self.of_kind(kind) if component_of(manifest) == component)
        return found

    @property
    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """Return the pod of each part, by the part's name."""
        for manifest in self.manifests:
            if manifest["kind"] in ("Deployment", "Job"):
                yield component_of(manifest), manifest["spec"]["template"]

    def pod(self, component: str) -> Manifest:
        return dict(self.pods)[component]

    @property
    def components(self) -> set[str]:
        return {name for name, _ in self.pods}


def component_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["labels"][COMPONENT])


def container_of(pod: Manifest) -> Manifest:
    (container,) = pod["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()
