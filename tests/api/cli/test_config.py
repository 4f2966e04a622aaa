"""The URL and the key of a command.

The sources, in this order: flags, environment, the user's file, the stack of the folder.
"""

import os
from pathlib import Path

import pytest

from api.cli import config
from api.cli.config import DEFAULT_URL, Target
from api.cli.errors import UsageError
from tests.api.cli.fake_api import FakeApi, run

FLAG, VARIABLE, USER, STACK = (f"http://{name}:1" for name in ("flag", "variable", "user", "stack"))


def user_file(text: str, home: Path | None = None) -> None:
    path = (home or Path.home() / ".config") / "flow-nexus/config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def stack_file(folder: Path, text: str, mode: int = 0o600) -> None:
    path = folder / ".flow-nexus/env"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def resolved(folder: Path, url: str | None = None, key: str | None = None, **environment: str) -> Target:
    return config.resolve(url, key, {"HOME": str(Path.home()), **environment}, folder)


def everything(folder: Path) -> dict[str, str]:
    user_file(f'url = "{USER}"\napi_key = "user-key"\n')
    stack_file(folder, f"FLOW_NEXUS_URL={STACK}\nFLOW_NEXUS_API_KEY=stack-key\n")
    return {"FLOW_NEXUS_URL": VARIABLE, "FLOW_NEXUS_API_KEY": "variable-key"}


def test_flags_come_before_the_environment_before_the_files(empty_folder: Path) -> None:
    environment = everything(empty_folder)
    assert resolved(empty_folder, FLAG, "flag-key", **environment) == Target(FLAG, "flag-key")
    assert resolved(empty_folder, **environment) == Target(VARIABLE, "variable-key")
    assert resolved(empty_folder) == Target(USER, "user-key")
    (Path.home() / ".config/flow-nexus/config.toml").unlink()
    assert resolved(empty_folder) == Target(STACK, "stack-key")
    (empty_folder / ".flow-nexus/env").unlink()
    assert resolved(empty_folder) == Target(DEFAULT_URL, None)


def test_a_key_of_a_file_goes_to_that_files_server_alone(empty_folder: Path) -> None:
    """Neither a folder from another person nor a flag gets a key that belongs to another URL."""
    everything(empty_folder)
    assert resolved(empty_folder, FLAG) == Target(FLAG, None)
    assert resolved(empty_folder, STACK) == Target(STACK, "stack-key")
    assert resolved(empty_folder, f"{USER}/") == Target(USER, "user-key")
    user_file('api_key = "user-key"\n')
    assert resolved(empty_folder) == Target(STACK, "stack-key"), "the user's key is for no server that a folder names"
    (empty_folder / ".flow-nexus/env").unlink()
    assert resolved(empty_folder, FLAG) == Target(FLAG, "user-key")


def test_the_environment_may_name_the_users_folder(empty_folder: Path, tmp_path: Path) -> None:
    user_file(f'url = "{USER}"', tmp_path / "xdg")
    assert resolved(empty_folder, XDG_CONFIG_HOME=str(tmp_path / "xdg")).url == USER


def test_a_stacks_file_may_be_one_that_a_shell_would_read(empty_folder: Path) -> None:
    stack_file(empty_folder, f"# made by up\nexport FLOW_NEXUS_URL='{STACK}'\n\nFLOW_NEXUS_API_KEY=\"stack-key\"\nOTHER=1\n")
    assert resolved(empty_folder) == Target(STACK, "stack-key")


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602])
def test_a_stacks_file_that_others_may_touch_is_ignored(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    stack_file(empty_folder, f"FLOW_NEXUS_URL={STACK}\n", mode)
    assert resolved(empty_folder).url == DEFAULT_URL
    assert "is ignored" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "ftp://host",
        "http://",
        "http://:80",
        "http://host:0",
        "http://host:x",
        "http://host:99999",
        "http://[::1",
        "http://a b",
        "http://a..b",
        "http://" + "x" * 64,
        "http://user:secret@host",
        "http://host?key=secret",
        "http://host#secret",
    ],
)
def test_a_url_that_is_none_is_refused_without_quoting_it(empty_folder: Path, url: str) -> None:
    if not url:
        user_file('url = "host"')
    with pytest.raises(UsageError) as caught:
        resolved(empty_folder, url or None)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "url", ["http://host", "https://host:8443", "http://127.0.0.1:8700", "http://[::1]:8700", "http://ä.example"]
)
def test_a_url_that_is_one_is_taken(empty_folder: Path, url: str) -> None:
    assert resolved(empty_folder, url).url == url
    assert resolved(empty_folder, f"{url}/").url == url


@pytest.mark.parametrize(
    "text", ["url = secret", 'url = "http://x"\napi_key = "secret', "url = 3", "api_key = ['secret']", "\0"]
)
def test_a_users_file_that_is_broken_is_named_and_not_quoted(empty_folder: Path, text: str) -> None:
    user_file(text)
    with pytest.raises(UsageError) as caught:
        resolved(empty_folder)
    assert "config.toml" in caught.value.message
    assert "secret" not in caught.value.message


def test_files_that_cannot_be_read_are_named(empty_folder: Path) -> None:
    stack_file(empty_folder, "FLOW_NEXUS_API_KEY='secret\n")
    with pytest.raises(UsageError, match="quote is not closed") as caught:
        resolved(empty_folder)
    assert "secret" not in caught.value.message
    (empty_folder / ".flow-nexus/env").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        resolved(empty_folder)
    (empty_folder / ".flow-nexus/env").unlink()
    (empty_folder / ".flow-nexus/env").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        resolved(empty_folder)


@pytest.mark.parametrize("key", ["two words", "ä", "a\nb", "\0"])
def test_a_key_that_no_header_can_carry_is_refused(empty_folder: Path, key: str) -> None:
    with pytest.raises(UsageError, match="characters that no key has"):
        resolved(empty_folder, None, key)


def test_a_target_does_not_show_its_key() -> None:
    assert "secret" not in repr(Target("http://x", "secret"))


def test_a_command_takes_them_in_that_order(api: FakeApi, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOW_NEXUS_URL")
    monkeypatch.delenv("FLOW_NEXUS_API_KEY")
    user_file(f'url = "{api.url}"\napi_key = "user-key"\n')
    words = ("neural", "cluster", "list")
    for extra, key in ((("--api-key", "flag-key"), "flag-key"), ((), "user-key")):
        assert run(*words, *extra) == 0
        assert api.last.headers["authorization"] == f"Bearer {key}"
    monkeypatch.setenv("FLOW_NEXUS_API_KEY", "variable-key")
    assert run(*words) == 0
    assert api.last.headers["authorization"] == "Bearer variable-key"
    monkeypatch.setenv("FLOW_NEXUS_URL", "http://127.0.0.1:9")
    assert run("--url", api.url, *words) == 0


def test_a_stack_is_found_from_a_folder_below_it_and_from_the_home(empty_folder: Path) -> None:
    below = empty_folder / "a/b"
    below.mkdir(parents=True)
    home = Path.home()
    home.mkdir(exist_ok=True)
    stack_file(home, f"FLOW_NEXUS_URL={USER}\nFLOW_NEXUS_API_KEY=home-key\n")
    assert resolved(below) == Target(USER, "home-key")
    stack_file(empty_folder, f"FLOW_NEXUS_URL={STACK}\nFLOW_NEXUS_API_KEY=stack-key\n")
    assert resolved(below) == Target(STACK, "stack-key"), "the nearest stack comes first"


def test_a_stack_that_runs_comes_before_one_that_does_not(empty_folder: Path) -> None:
    home = Path.home()
    home.mkdir(exist_ok=True)
    stack_file(home, f"FLOW_NEXUS_URL={USER}\nFLOW_NEXUS_API_KEY=home-key\n")
    stack_file(empty_folder, f"FLOW_NEXUS_URL={STACK}\nFLOW_NEXUS_API_KEY=stack-key\n")
    (home / ".flow-nexus/lock").write_text(str(os.getpid()))
    for ended in ("", "no number", "999999999"):
        (empty_folder / ".flow-nexus/lock").write_text(ended)
        assert resolved(empty_folder) == Target(USER, "home-key")
    (empty_folder / ".flow-nexus/lock").write_text(str(os.getpid()))
    assert resolved(empty_folder) == Target(STACK, "stack-key")


def test_another_persons_stack_above_the_folder_is_ignored(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    below = empty_folder / "a"
    below.mkdir()
    stack_file(empty_folder, f"FLOW_NEXUS_URL={STACK}\nFLOW_NEXUS_API_KEY=stack-key\n", mode=0o644)
    assert resolved(below) == Target(DEFAULT_URL, None)
    assert capsys.readouterr().err == ""
