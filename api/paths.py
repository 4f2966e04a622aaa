"""Files that lie beside the package in the repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALEMBIC_INI = ROOT / "alembic.ini"
OPENAPI_JSON = ROOT / "openapi.json"
