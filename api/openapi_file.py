"""Write openapi.json: `python -m api.openapi_file`. With `--check`, only compare the file."""

import json
import sys
from pathlib import Path

from api.main import create_app
from api.settings import Settings

OPENAPI_JSON = Path(__file__).resolve().parent.parent / "openapi.json"


def render() -> str:
    """Return the document of an app with default settings. No database is needed."""
    settings = Settings(
        database_url="postgresql+psycopg://", redis_url="redis://", secret_key="0" * 32, models_dir=Path(), E2B_API_KEY=""
    )
    return json.dumps(create_app(settings).openapi(), indent=1, ensure_ascii=False) + "\n"


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
