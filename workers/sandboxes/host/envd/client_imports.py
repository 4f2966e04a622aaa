"""Import E2B's messages without E2B's client."""

import sys
import types
from importlib.util import find_spec


def skip_client_imports() -> None:
    """Allow the import of `e2b.envd` without `e2b/__init__`.

    That module loads the whole client, which takes half of envd's start time and memory.
    """
    spec = find_spec("e2b")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("the e2b package is not installed")
    package = types.ModuleType("e2b")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["e2b"] = package
