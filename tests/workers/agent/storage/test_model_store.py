import threading
from pathlib import Path

import pytest
import torch

from workers.agent.runtime.errors import AgentError
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore

NOBODYS = "0" * 64


def state(value: float) -> tensors.State:
    return {"w": torch.full((2, 3), value)}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "model")


def test_a_model_is_named_by_what_is_in_it(store: ModelStore) -> None:
    saved = store.save("train_1", state(1))
    path = store.require(saved.digest)
    assert path == store.path("train_1", saved.digest)
    assert (path.name, tensors.file_digest(path)) == (f"{saved.digest}.safetensors", saved.digest)
    assert store.save("train_1", state(1)) == saved
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_model_that_is_not_here_is_unknown(store: ModelStore) -> None:
    assert store.find(NOBODYS) is None
    with pytest.raises(AgentError) as caught:
        store.require(NOBODYS)
    assert (caught.value.code, caught.value.status) == ("unknown_model", 404)


def test_pruning_keeps_what_is_named_and_what_is_no_global_model(store: ModelStore) -> None:
    old, new = (store.save("train_1", state(value)) for value in (1, 2))
    other = store.save("train_2", state(3))
    graph = store.path("train_1", old.digest).with_suffix(".onnx")
    graph.write_bytes(b"x")
    local = graph.with_name(f"local-{other.digest}.onnx")
    local.write_bytes(b"x")
    own = store.folder("train_1") / "local.safetensors"
    own.write_bytes(b"x")
    store.prune("train_1", {new.digest})
    assert store.find(old.digest) is None
    assert not graph.exists()
    assert not local.exists()
    assert own.exists()
    assert store.require(new.digest)
    assert store.require(other.digest)
    store.prune("train_unknown", set())


def test_held_updates_are_found_and_cleared(store: ModelStore) -> None:
    saved = store.save("train_1", state(1))
    store.updates("train_1").mkdir()
    store.path("train_1", saved.digest).rename(store.updates("train_1") / f"{saved.digest}.safetensors")
    assert store.require(saved.digest).parent == store.updates("train_1")
    store.clear_updates("train_1")
    store.clear_updates("train_1")
    assert store.find(saved.digest) is None


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "a\0b", "a b", "-x", "x" * 101, "a.b", "a\n"])
def test_an_id_that_could_leave_the_folder_is_refused(store: ModelStore, name: str) -> None:
    for use in (store.folder, store.updates, store.clear_updates, lambda name: store.prune(name, set())):
        with pytest.raises(AgentError) as caught:
            use(name)
        assert caught.value.code == "bad_id"


@pytest.mark.parametrize("digest", ["", "..", "../" * 21 + "x", "A" * 64, "0" * 63, "0" * 65, "*" * 64, "0" * 64 + "\n"])
def test_a_digest_that_is_none_is_refused(store: ModelStore, digest: str) -> None:
    for use in (store.find, store.require, lambda name: store.path("train_1", name)):
        with pytest.raises(AgentError) as caught:
            use(digest)
        assert caught.value.code == "bad_digest"


def test_threads_that_publish_at_once_each_get_their_own_model(store: ModelStore) -> None:
    failures: list[BaseException] = []

    def publish(value: float) -> None:
        try:
            for step in range(15):
                state_of_step = {"w": torch.full((50_000,), value + step)}
                assert tensors.file_digest(store.require(store.save("train_1", state_of_step).digest)) == tensors.file_digest(
                    store.path("train_1", store.save("train_1", state_of_step).digest)
                )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=publish, args=(1000.0 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    files = list(store.folder("train_1").iterdir())
    assert len(files) == 4 * 15
    assert all(path.name == f"{tensors.file_digest(path)}.safetensors" for path in files)
