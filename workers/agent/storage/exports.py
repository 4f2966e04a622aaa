"""The files of an exported model, from its folder or from its tar.

A user may have put them there, so nothing in them is trusted, and none of their code is run.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tar_files, tensors

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER = "tokenizer.json"
_MIB = 2**20
_MOST_HEADER_BYTES = _MIB
_LIMITS = {
    CONFIG: _MIB,
    WEIGHTS: 8 * 2**30,
    TOKENIZER_CONFIG: _MIB,
    TOKENIZER: 64 * _MIB,
    "special_tokens_map.json": _MIB,
    "added_tokens.json": _MIB,
    "vocab.txt": 16 * _MIB,
    "vocab.json": 16 * _MIB,
    "merges.txt": 16 * _MIB,
    "spiece.model": 16 * _MIB,
}
_MOST_CODE_BYTES = _MIB
_MOST_LABELS = 10_000
_LONGEST_LABEL = 200


@dataclass(frozen=True, slots=True)
class ExportFolder:
    """The folder of an export."""

    path: Path

    @property
    def weights(self) -> Path:
        """Return the file of the weights, after a check of its header's size.

        Raises:
            AgentError: `bad_export`.
        """
        file = self.path / WEIGHTS
        if not file.is_file():
            raise bad(f"it has no {WEIGHTS}")
        with file.open("rb") as opened:
            header = int.from_bytes(opened.read(8), "little")
        if header > _MOST_HEADER_BYTES:
            raise bad(f"{WEIGHTS} is not a safetensors file of a model")
        return file

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the weights. Only the file's header is read.

        Raises:
            AgentError: `bad_export`.
        """
        try:
            return tensors.shapes(self.weights)
        except ValueError as error:
            raise bad(f"{WEIGHTS}: {error}") from None

    def read(self, name: str) -> bytes | None:
        """Return a small file's bytes, or None without it. Only a regular file is opened.

        Raises:
            AgentError: `bad_export`, if it is too large.
        """
        file, most = self.path / name, _LIMITS.get(name, _MOST_CODE_BYTES)
        if not file.is_file():
            return None
        with file.open("rb") as opened:
            content = opened.read(most + 1)
        if len(content) > most:
            raise bad(f"{name} has more than {most} bytes")
        return content

    def read_object(self, name: str) -> dict[str, Any]:
        """Return a file's JSON object. It is empty without the file.

        Raises:
            AgentError: `bad_export`, if it is not a JSON object.
        """
        content = self.read(name)
        try:
            value = {} if content is None else json.loads(content)
        except (ValueError, RecursionError):
            raise bad(f"{name} is not JSON") from None
        if not isinstance(value, dict):
            raise bad(f"{name} is not a JSON object")
        return value

    def labels(self) -> list[str]:
        """Return the names of the classes in output order.

        Raises:
            AgentError: `bad_export`.
        """
        named = self.read_object(CONFIG).get("id2label")
        names: list[Any] = [named.get(str(index)) for index in range(len(named))] if isinstance(named, dict) else []
        if not 2 <= len(names) <= _MOST_LABELS or not all(_is_label(name) for name in names) or len({*names}) != len(names):
            raise bad(f"{CONFIG} does not name at least two different classes in id2label")
        return names


@contextmanager
def opened(root: SandboxRoot, path: str, code: tuple[str, ...] = (), sha256: str | None = None) -> Iterator[ExportFolder]:
    """Yield the folder of the export at `path`. Of a tar, the known files are in a temporary one.

    `code` names further files to take out of a tar. `sha256` is the tar's digest, if it is known.

    Raises:
        AgentError: `export_missing`, `bad_export` or `digest_mismatch`.
    """
    found = root.resolve(path)
    if found.is_dir():
        yield ExportFolder(found)
        return
    if not found.is_file():
        raise AgentError("export_missing", f"there is no exported model at {path}", 404)
    if sha256 is not None and tensors.file_digest(found) != sha256:
        raise AgentError("digest_mismatch", "the tar of the export is not the one that was exported")
    root.models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.models, prefix=".export-") as folder:
        tar_files.extract(found, {**_LIMITS, **dict.fromkeys(code, _MOST_CODE_BYTES)}, Path(folder))
        yield ExportFolder(Path(folder))


def bad(reason: str) -> AgentError:
    return AgentError("bad_export", f"the export cannot be used: {reason}")


def _is_label(name: object) -> bool:
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_LABEL:
        return False
    return not any(char == "\0" or 0xD800 <= ord(char) <= 0xDFFF for char in name)
