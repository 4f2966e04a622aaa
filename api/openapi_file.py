"""Write openapi.json: `python -m api.openapi_file`. With `--check`, only compare the file."""

import json
import sys
from pathlib import Path
from typing import Any, Final

from api.main import create_app
from api.settings import Settings

_LONGEST_LINE: Final = 140
OPENAPI_JSON = Path(__file__).resolve().parent.parent / "openapi.json"


def render() -> str:
    """Return the document of an app with default settings. No database is needed."""
    settings = Settings(
        database_url="postgresql+psycopg://", redis_url="redis://", secret_key="0" * 32, models_dir=Path(), E2B_API_KEY=""
    )
    return pretty(create_app(settings).openapi()) + "\n"


def pretty(value: Any, indent: str = "") -> str:
    """Return JSON for people and for `git diff`. What fits into a line is one line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= _LONGEST_LINE or not isinstance(value, dict | list):
        return line
    deeper = f"{indent} "
    if isinstance(value, list):
        parts, (begin, end) = [pretty(item, deeper) for item in value], "[]"
    else:
        parts, (begin, end) = [f"{json.dumps(name)}: {pretty(item, deeper)}" for name, item in value.items()], "{}"
    return f"{begin}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{end}"


def main(arguments: list[str]) -> int:
    document = render()
    if arguments == ["--check"]:
        if OPENAPI_JSON.is_file() and OPENAPI_JSON.read_text() == document:
            return 0
        print(f"{OPENAPI_JSON.name} is not current; run: make openapi", file=sys.stderr)
        return 1
    OPENAPI_JSON.write_text(document)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
