"""The URL of the API and the API key.

The sources, in this order: flags, environment, the user's file, an embedded stack. Stacks are
looked for in the folder, in the folders above it and in the user's home. One that runs comes first.
"""

import os
import shlex
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from api.cli.errors import UsageError

URL_VARIABLE = "FLOW_NEXUS_URL"
KEY_VARIABLE = "FLOW_NEXUS_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
STACK_FILE = Path(".flow-nexus/env")
_LOCK_FILE = Path(".flow-nexus/lock")


@dataclass(frozen=True, slots=True)
class Target:
    url: str
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _ConfigSource:
    url: str | None
    api_key: str | None = field(repr=False)


def resolve(url: str | None, api_key: str | None, environment: Mapping[str, str], folder: Path) -> Target:
    """Choose the URL and the key, each from the first source that has it.

    A key from a file is sent only to the URL of the same file. If that file has no
    URL, the URL of the flag, the environment or the default gets the key. So the settings of a
    folder can never send a key to another server.

    Raises:
        UsageError: The URL, the key or a file is not valid.
    """
    sources = [*_user_file(environment), *_stacks(folder, _home(environment))]
    explicit = url or environment.get(URL_VARIABLE)
    from_file = None if explicit else next((source.url for source in sources if source.url), None)
    chosen = _checked(explicit or from_file or DEFAULT_URL)
    keys = [api_key, environment.get(KEY_VARIABLE)]
    keys += [source.api_key for source in sources if (_checked(source.url) == chosen if source.url else not from_file)]
    key = next((key for key in keys if key), None)
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise UsageError("the API key contains characters that no key has")
    return Target(chosen, key)


def is_chosen(url: str | None, environment: Mapping[str, str]) -> bool:
    """Return whether the user has named a URL: by a flag, the environment or the user's file."""
    return bool(url or environment.get(URL_VARIABLE) or any(source.url for source in _user_file(environment)))


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        has_host = parts.hostname and url.isprintable() and " " not in url
        usable = (
            has_host and parts.scheme in ("http", "https") and (parts.port is None or parts.port > 0) and _resolvable(parts)
        )
    except ValueError:
        usable = False
    if not usable:
        raise UsageError("the URL of the API must look like http://host:port")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError("the URL of the API must not carry credentials, a query or a fragment; use --api-key for the key")
    return url.rstrip("/")


def _resolvable(parts: SplitResult) -> bool:
    """Return whether there is a host name.

    Raises:
        ValueError: No resolver accepts the name, such as "a..b".
    """
    return bool((parts.hostname or "").encode("idna"))


def _user_file(environment: Mapping[str, str]) -> Iterator[_ConfigSource]:
    home = environment.get("XDG_CONFIG_HOME") or Path(_home(environment), ".config")
    path = Path(home, "flow-nexus", "config.toml")
    if (text := _read(path)) is None:
        return
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        # The message of the parser may quote the line, and the line may have the key.
        raise UsageError(f"{path} is not valid TOML") from None
    values = {name: content.get(name) for name in ("url", "api_key")}
    for name, value in values.items():
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{name} in {path} must be a string")
    yield _ConfigSource(values["url"], values["api_key"])


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or Path.home())


def _stacks(folder: Path, home: Path) -> list[_ConfigSource]:
    """Return the settings of the embedded stacks, the nearest first, those that run before
    others.
    """
    folders = list(dict.fromkeys((folder, *folder.parents, home)))
    stacks = [(not _runs(place), source) for place in folders for source in _stack_file(place, warn=place == folder)]
    return [source for _, source in sorted(stacks, key=lambda stack: stack[0])]


def _runs(folder: Path) -> bool:
    """Return whether the stack of a folder runs: the process that its lock names is alive."""
    try:
        os.kill(int((folder / _LOCK_FILE).read_text()), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _stack_file(folder: Path, *, warn: bool) -> Iterator[_ConfigSource]:
    """Yield the settings that `flow-nexus up` wrote, if only the user can read and write the file.

    So a folder of another person cannot choose the server.
    """
    path = folder / STACK_FILE
    try:
        state = path.stat()
    except OSError:
        return
    if os.name == "posix" and path.is_file() and (state.st_uid != os.getuid() or state.st_mode & 0o077):
        if warn:
            print(f"note: {STACK_FILE} is ignored: it must belong to you, with mode 0600", file=sys.stderr)
        return
    if (text := _read(path)) is None:
        return
    try:
        values = dict(_assignments(text))
    except ValueError:
        raise UsageError(f"{path} is not what `flow-nexus up` writes: a quote is not closed") from None
    yield _ConfigSource(values.get(URL_VARIABLE), values.get(KEY_VARIABLE))


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            yield name, "".join(shlex.split(value))


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
