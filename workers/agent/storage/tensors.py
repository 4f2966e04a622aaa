"""State dicts and their files.

A state maps parameter names to fp32 tensors. A file has the safetensors format. Its digest is its
SHA-256.
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

State = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class StoredTensors:
    """A file that was written: its SHA-256 digest, and its size in bytes."""

    digest: str
    bytes: int


def state_of(model: nn.Module) -> State:
    """Return the model's floating-point tensors. They share memory with the model.

    Tied weights appear under each of their names.
    """
    return {name: tensor.detach() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


def load_into(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy a state into a model.

    Raises:
        KeyError, RuntimeError: when names or shapes are not exactly those of the model.
    """
    model_state = state_of(model)
    if model_state.keys() != state.keys():
        raise KeyError("the state's names are not the model's")
    with torch.no_grad():
        for name, tensor in model_state.items():
            tensor.copy_(state[name])


def read(path: Path) -> State:
    return load_file(path)


class LazyState(Mapping[str, torch.Tensor]):
    """A state in a file. Each tensor is read when it is used."""

    def __init__(self, path: Path) -> None:
        self._file = safe_open(path, framework="pt")
        self._names = list(self._file.keys())  # type: ignore[no-untyped-call]

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._file.get_tensor(name)  # type: ignore[no-untyped-call]
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def write(path: Path, state: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> StoredTensors:
    """Write a safetensors file atomically, even with other writers of the same path.

    Equal states give equal bytes when there is no metadata. safetensors does not sort metadata.
    """
    return write_parts(path, {name: tensor.to(torch.float32) for name, tensor in state.items()}, metadata)


def write_parts(path: Path, parts: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> StoredTensors:
    """Write a file like `write`, but keep the type of each tensor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    contiguous = {name: tensor.contiguous() for name, tensor in parts.items()}
    try:
        save_file(_unshared(contiguous), part, {"format": "pt", **(metadata or {})})
        saved = StoredTensors(file_digest(part), part.stat().st_size)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return saved


def _unshared(state: State) -> State:
    """Copy tensors that share storage, because safetensors refuses them.

    So tied weights are written once for each name.
    """
    seen: set[int] = set()
    result: State = {}
    for name, tensor in state.items():
        result[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return result


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over names, shapes and values, in the order of names.

    It is the same for all files with the same tensors.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().to(torch.float32).contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).numpy().data)
    return digest.hexdigest()


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return names and shapes from a file's header.

    Raises:
        ValueError: when it is not a safetensors file of fp32 tensors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            if any(part.get_dtype() != "F32" for part in slices.values()):
                raise ValueError("tensors are not all fp32")
            return {name: tuple(part.get_shape()) for name, part in slices.items()}
    except SafetensorError:
        raise ValueError("not a safetensors file") from None


def metadata(path: Path) -> dict[str, str]:
    """Return the metadata in a file's header.

    Raises:
        ValueError: when it is not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError:
        raise ValueError("not a safetensors file") from None
