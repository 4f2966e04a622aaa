"""The agent's memory between requests: the network of its training, and its shard as token ids."""

import threading
from pathlib import Path
from typing import NamedTuple

from workers.agent.datasets import shards
from workers.agent.datasets.batches import EncodedShard, EncodedTexts
from workers.agent.modeling.freezing import with_activations
from workers.agent.modeling.held_out_metrics import HeldOutMetrics
from workers.agent.modeling.network import Network, build
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.data import DataFormat
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors

_MOST_MEASURED = 8


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

        They are read, tokenised and passed through the frozen layers once for each training.
        Without `hold_out` all samples are for training. `freeze_layers` None keeps the number of
        frozen layers of the cached shard. The network must hold weights of the current training.
        """
        key = _ShardKey(spec.model_dump_json(), dataset, data_format.model_dump_json(), freeze_layers or 0, hold_out)
        if freeze_layers is None and self._shard is not None and self._shard[0][:3] == key[:3]:
            key = key._replace(freeze_layers=self._shard[0].freeze_layers)
        if self._shard is None or self._shard[0] != key:
            samples = shards.read(self._root, dataset, data_format)
            training, held_out = shards.split(samples) if hold_out else (samples, samples.select([]))
            network = self.network(spec)
            encoded = (network.encoded(part.texts, part.labels) for part in (training, held_out))
            self._shard = (key, EncodedShard(*(self._with_frozen_layers(network, part, key.freeze_layers) for part in encoded)))
        return self._shard[1]

    def samples(
        self, spec: ModelSpec, dataset: str, freeze_layers: int = 0, *, data_format: DataFormat = DataFormat()
    ) -> EncodedTexts:
        """Return all samples of `dataset`. It is for validation data, so there is no split."""
        stats = [(path, path.stat()) for path in self._root.files(dataset)]
        stamps = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
        key = (spec.model_dump_json(), dataset, data_format.model_dump_json(), freeze_layers, *stamps)
        if self._samples is None or self._samples[0] != key:
            network, samples = self.network(spec), shards.read(self._root, dataset, data_format)
            self._samples = (
                key,
                self._with_frozen_layers(network, network.encoded(samples.texts, samples.labels), freeze_layers),
            )
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
