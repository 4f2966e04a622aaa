"""Shards as token ids on disk: written in one pass in bounded memory, then mapped into memory.

A folder holds one shard. Its name is made of all that decides its content. So a later round,
another training of the same model and a restarted agent use it again.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from workers.agent.datasets import hold_out
from workers.agent.datasets.batches import EncodedShard, EncodedTexts
from workers.agent.datasets.limits import check_disk, check_memory
from workers.agent.datasets.reading import Reading
from workers.agent.datasets.samples import Sample, SampleStream
from workers.agent.protocol.data import DataFormat
from workers.agent.runtime.errors import DataError
from workers.agent.runtime.paths import SandboxRoot

_FORM: Final = 1
_KEPT: Final = 2
_TEXTS_AT_ONCE: Final = 1024
_SAMPLES_AT_ONCE: Final = 2**12
# Between two checks of disk and memory.
_CHECK_BYTES: Final = 2**26
_PARTS: Final = ("training", "held_out")


@dataclass(frozen=True, slots=True)
class ShardSource:
    """The files of a shard, how they are read, and whether samples are held out."""

    dataset: str
    data_format: DataFormat
    hold_out: bool


@dataclass(frozen=True, slots=True)
class Encoder:
    """How texts become token ids. `identity` differs where the same text has other ids."""

    identity: str
    classes: Sequence[str]
    encode: Callable[[Sequence[str]], EncodedTexts]
    pad_id: int
    pad_left: bool


class EncodedFiles:
    """The encoded shards of an agent.

    It keeps the two that were used last, for example a shard and a validation file.
    """

    def __init__(self, root: SandboxRoot) -> None:
        self._root = root
        self._writing: set[str] = set()

    def shard(self, source: ShardSource, encoder: Encoder, reading: Reading | None = None) -> EncodedShard:
        """Return a shard's token ids. They are written if they are not on disk yet.

        Raises:
            DataError: `unknown_label`, `dataset_changed`, `not_enough_disk`, `not_enough_memory`,
            and the errors of `SampleStream`.
        """
        stamps = self._root.stamps(source.dataset)
        folder = self._root.encoded / _name(source, encoder, stamps)
        shard = _opened(folder, encoder)
        if shard is None:
            self._write(folder, source, encoder, Reading() if reading is None else reading, stamps)
            shard = _opened(folder, encoder)
        if shard is None:
            raise DataError("unreadable_file", "the token ids cannot be read back from disk")
        os.utime(folder)
        return shard

    def _write(
        self, folder: Path, source: ShardSource, encoder: Encoder, reading: Reading, stamps: Sequence[tuple[str, int, int]]
    ) -> None:
        stream = SampleStream(self._root, source.dataset, source.data_format, reading=reading)
        self._drop_old()
        check_disk(self._root.folder, reading.bytes_total)
        unfinished = folder.with_name(f"unfinished-{uuid.uuid4().hex}")
        self._writing.add(unfinished.name)
        try:
            unfinished.mkdir(mode=0o700, parents=True)
            samples = _encode(unfinished, stream, encoder, self._root.folder)
            _divide(unfinished, samples, _held_out(unfinished, samples, encoder, wanted=source.hold_out))
            if self._root.stamps(source.dataset) != stamps:
                raise DataError("dataset_changed", "the files of the dataset changed while they were read; try again")
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            self._writing.discard(unfinished.name)

    def _drop_old(self) -> None:
        """Delete what an earlier process left unfinished, and all but the newest shard."""
        try:
            folders = [path for path in self._root.encoded.iterdir() if path.name not in self._writing]
        except FileNotFoundError:
            return
        whole = sorted((path for path in folders if "-" not in path.name), key=lambda path: path.stat().st_mtime)
        for path in {*folders} - {*whole[len(whole) - _KEPT + 1 :]}:
            shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Encoded:
    """The lengths in tokens and the class indices of all samples, in file order."""

    lengths: NDArray[np.int32]
    classes: NDArray[np.int32]


def _name(source: ShardSource, encoder: Encoder, stamps: Sequence[tuple[str, int, int]]) -> str:
    parts = [_FORM, source.dataset, source.data_format.model_dump(), source.hold_out, encoder.identity, stamps]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _encode(folder: Path, stream: SampleStream, encoder: Encoder, root: Path) -> _Encoded:
    """Write the token ids and the hashes of all texts."""
    class_of = {label: index for index, label in enumerate(encoder.classes)}
    lengths, classes = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    count = unknown = unchecked = 0
    with (folder / "training.ids").open("wb") as ids, (folder / "digests").open("wb") as digests:
        for samples in _groups(stream):
            texts = encoder.encode([sample.text for sample in samples])
            ids.write(texts.ids.tobytes())
            digests.write(b"".join(hold_out.digest(sample.text) for sample in samples))
            lengths.append(texts.lengths.astype(np.int32))
            found = [class_of.get(sample.label or "", -1) for sample in samples]
            classes.append(np.asarray(found, np.int32))
            count += len(samples)
            unknown += found.count(-1)
            unchecked += texts.ids.nbytes
            if unchecked > _CHECK_BYTES:
                check_disk(root, 0)
                check_memory(count)
                unchecked = 0
    if unknown:
        raise DataError("unknown_label", f"{unknown} of {count} samples have a label that the training does not have")
    return _Encoded(np.concatenate(lengths), np.concatenate(classes))


def _groups(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    iterator = iter(samples)
    while group := list(islice(iterator, _TEXTS_AT_ONCE)):
        yield group


def _held_out(folder: Path, samples: _Encoded, encoder: Encoder, *, wanted: bool) -> NDArray[np.bool_]:
    path = folder / "digests"
    if not wanted:
        path.unlink()
        return np.zeros(len(samples.lengths), np.bool_)
    ranks = np.argsort(np.argsort(np.asarray(encoder.classes, object), kind="stable"), kind="stable")
    digests = _mapped(path, np.dtype(">u8")).reshape(-1, 2)
    path.unlink()
    return hold_out.held_out(digests, ranks[samples.classes])


def _divide(folder: Path, samples: _Encoded, held_out: NDArray[np.bool_]) -> None:
    """Move the held-out token ids to their own file. Write offsets and classes of both parts."""
    with (folder / "training.ids").open("r+b") as training, (folder / "held_out.ids").open("wb") as other:
        if held_out.any():
            _move(training, other, samples.lengths, held_out)
    for part, chosen in zip(_PARTS, (~held_out, held_out), strict=True):
        offsets = np.zeros(int(chosen.sum()) + 1, np.int64)
        np.cumsum(samples.lengths[chosen], out=offsets[1:])
        offsets.tofile(folder / f"{part}.offsets")
        samples.classes[chosen].astype(np.int64).tofile(folder / f"{part}.classes")


def _move(training: IO[bytes], other: IO[bytes], lengths: NDArray[np.int32], held_out: NDArray[np.bool_]) -> None:
    """Move the token ids of held-out samples from `training` to `other`, in place."""
    read_to = written_to = 0
    for start in range(0, len(lengths), _SAMPLES_AT_ONCE):
        part = slice(start, start + _SAMPLES_AT_ONCE)
        training.seek(read_to)
        ids = np.frombuffer(training.read(4 * int(lengths[part].sum())), np.int32)
        read_to = training.tell()
        moves = np.repeat(held_out[part], lengths[part])
        training.seek(written_to)
        training.write(ids[~moves].tobytes())
        written_to = training.tell()
        other.write(ids[moves].tobytes())
    training.truncate(written_to)


def _opened(folder: Path, encoder: Encoder) -> EncodedShard | None:
    """Return a shard from disk; None if it is not there, or not complete after a power cut."""
    try:
        parts = [_texts(folder, part, encoder) for part in _PARTS]
    except (OSError, ValueError):
        return None
    return EncodedShard(*parts)


def _texts(folder: Path, part: str, encoder: Encoder) -> EncodedTexts:
    """Raises: OSError, ValueError if the files are not complete."""
    ids = _mapped(folder / f"{part}.ids", np.dtype(np.int32))
    offsets = _mapped(folder / f"{part}.offsets", np.dtype(np.int64))
    classes = _mapped(folder / f"{part}.classes", np.dtype(np.int64))
    if len(offsets) != len(classes) + 1 or offsets[-1] != len(ids):
        raise ValueError(part)
    return EncodedTexts(ids, offsets, classes, encoder.pad_id, encoder.pad_left)


def _mapped(path: Path, dtype: np.dtype) -> NDArray:  # type: ignore[type-arg]
    # An empty file cannot be mapped.
    return np.asarray(np.memmap(path, dtype, "r")) if path.stat().st_size else np.empty(0, dtype)
