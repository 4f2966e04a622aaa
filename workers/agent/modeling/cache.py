"""The agent's memory between requests: the network of its training, and its shard as token ids."""

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

from workers.agent.datasets.batches import EncodedShard, EncodedTexts
from workers.agent.datasets.encoded_files import EncodedFiles, Encoder, ShardSource
from workers.agent.datasets.reading import Reading
from workers.agent.modeling.freezing import with_activations
from workers.agent.modeling.held_out_metrics import HeldOutMetrics
from workers.agent.modeling.network import Network, build
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.data import DataFormat
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors

_MOST_MEASURED = 8
# Another tokenizer gives this text other ids. It has words, marks, accents, scripts and an address.
_PROBE = (
    "The 3 Probes don't co-operate: caf\u00e9, \u4f60\u597d, \u0e20\u0e32\u0e29\u0e32, \U0001f642 #tag http://x.org/a_b?c=1"
)


class _ShardKey(NamedTuple):
    """What decides the content of an encoded shard, besides its files."""

    spec: str
    dataset: str
    data_format: str
    freeze_layers: int
    hold_out: bool


class ModelCache:
    """Holds one network and one shard.

    Hold `lock` while the weights of the network must not change.
    """

    def __init__(self, root: SandboxRoot) -> None:
        self.lock = threading.Lock()
        self._root = root
        self._files = EncodedFiles(root)
        self._network: tuple[str, Network] | None = None
        self._shard: tuple[_ShardKey, EncodedShard] | None = None
        self._samples: tuple[tuple[object, ...], EncodedTexts] | None = None
        self._measured: dict[str, HeldOutMetrics] = {}

    def network(self, spec: ModelSpec) -> Network:
        """Return the network of this spec, with the weights that it has now."""
        key = spec.model_dump_json()
        if self._network is None or self._network[0] != key:
            self._network = (key, build(spec, self._root))
        return self._network[1]

    def rebuild_network(self, spec: ModelSpec) -> Network:
        """Return the network with its initial weights."""
        self._network = None
        return self.network(spec)

    def load(self, spec: ModelSpec, path: Path) -> Network:
        """Return the network with the weights of a model file."""
        network = self.network(spec)
        tensors.load_into(network.model, tensors.read(path))
        return network

    def shard(
        self,
        spec: ModelSpec,
        dataset: str,
        freeze_layers: int | None = None,
        *,
        data_format: DataFormat = DataFormat(),
        hold_out: bool = True,
    ) -> EncodedShard:
        """Return the samples of `dataset`, split into training and held-out samples.

        They are passed through the frozen layers once for each training. Token ids are on disk.
        Without `hold_out` all samples are for training. `freeze_layers` None keeps the number of
        frozen layers of the cached shard. The network must hold weights of the current training.
        """
        key = _ShardKey(spec.model_dump_json(), dataset, data_format.model_dump_json(), freeze_layers or 0, hold_out)
        if freeze_layers is None and self._shard is not None and self._shard[0][:3] == key[:3]:
            key = key._replace(freeze_layers=self._shard[0].freeze_layers)
        if self._shard is None or self._shard[0] != key:
            network = self.network(spec)
            shard = self._files.shard(ShardSource(dataset, data_format, hold_out), _encoder(network))
            parts = (self._with_frozen_layers(network, part, key.freeze_layers) for part in (shard.training, shard.held_out))
            self._shard = (key, EncodedShard(*parts))
        return self._shard[1]

    def write_tokens(
        self, spec: ModelSpec, dataset: str, data_format: DataFormat, reading: Reading, *, hold_out: bool = True
    ) -> EncodedShard:
        """Write the token ids of `dataset` to disk, where `shard` and `samples` find them.

        It takes the lock for some texts at a time, so that other work goes on.
        """
        with self.lock:
            network = self.network(spec)
            encoder = _encoder(network, self.lock)
        return self._files.shard(ShardSource(dataset, data_format, hold_out), encoder, reading)

    def samples(
        self, spec: ModelSpec, dataset: str, freeze_layers: int = 0, *, data_format: DataFormat = DataFormat()
    ) -> EncodedTexts:
        """Return all samples of `dataset`. It is for validation data, so there is no split."""
        stamps = self._root.stamps(dataset)
        key = (spec.model_dump_json(), dataset, data_format.model_dump_json(), freeze_layers, *stamps)
        if self._samples is None or self._samples[0] != key:
            network = self.network(spec)
            encoded = self._files.shard(ShardSource(dataset, data_format, hold_out=False), _encoder(network)).training
            self._samples = (key, self._with_frozen_layers(network, encoded, freeze_layers))
        return self._samples[1]

    def _with_frozen_layers(self, network: Network, encoded: EncodedTexts, freeze_layers: int) -> EncodedTexts:
        # All global models of a training have the same frozen layers, so their output stays valid.
        return with_activations(network.model, freeze_layers, encoded, self._root.models) if freeze_layers else encoded

    def metrics_of(self, digest: str) -> HeldOutMetrics | None:
        """Return the metrics of a model on held-out data, if this agent has measured them."""
        return self._measured.get(digest)

    def store_metrics(self, digest: str, metrics: HeldOutMetrics) -> None:
        """Keep the metrics of a model. Only those of the last models stay."""
        self._measured[digest] = metrics
        for old in list(self._measured)[:-_MOST_MEASURED]:
            del self._measured[old]

    def clear_data(self) -> None:
        """Forget the samples, because the next training reads the files again."""
        self._shard = self._samples = None


def _encoder(network: Network, lock: AbstractContextManager[object] = nullcontext()) -> Encoder:
    """Return how `network` encodes texts. `lock` is held meanwhile."""

    def encode(texts: Sequence[str]) -> EncodedTexts:
        with lock:
            return network.encoded(texts)

    spec = network.spec
    decides = (spec.architecture, spec.model, spec.max_length, spec.labels, network.encoded([_PROBE]).ids.tolist())
    return Encoder(repr(decides), spec.labels, encode, network.pad_id, network.pad_left)
