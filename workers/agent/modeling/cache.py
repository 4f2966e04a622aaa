"""What an agent keeps in memory between requests: the network of its training, and its shard as token ids."""

import threading
from pathlib import Path

from workers.agent.datasets import shards
from workers.agent.datasets.batches import EncodedShard, EncodedTexts
from workers.agent.modeling.freezing import with_activations
from workers.agent.modeling.held_out_metrics import HeldOutMetrics
from workers.agent.modeling.network import Network, build
from workers.agent.protocol.common import ModelSpec
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors

_MOST_MEASURED = 8


class ModelCache:
    """One network and one shard at a time. Hold `lock` while the network's weights matter."""

    def __init__(self, root: SandboxRoot) -> None:
        self.lock = threading.Lock()
        self._root = root
        self._network: tuple[str, Network] | None = None
        self._shard: tuple[tuple[str, str, int, bool], EncodedShard] | None = None
        self._samples: tuple[tuple[object, ...], EncodedTexts] | None = None
        self._measured: dict[str, HeldOutMetrics] = {}

    def network(self, spec: ModelSpec) -> Network:
        key = spec.model_dump_json()
        if self._network is None or self._network[0] != key:
            self._network = (key, build(spec, self._root))
        return self._network[1]

    def rebuild_network(self, spec: ModelSpec) -> Network:
        """The network with its first weights, whatever was loaded into it since."""
        self._network = None
        return self.network(spec)

    def load(self, spec: ModelSpec, path: Path) -> Network:
        """The network with the weights of a model file."""
        network = self.network(spec)
        tensors.load_into(network.model, tensors.read(path))
        return network

    def shard(self, spec: ModelSpec, dataset: str, freeze_layers: int | None = None, *, hold_out: bool = True) -> EncodedShard:
        """The samples that `dataset` names, split; read, tokenised and taken through the frozen layers once for a training.
        Without `hold_out` all are for training.

        The network must hold weights of the training in hand. None takes the shard with however many layers' part it keeps.
        """
        name = (spec.model_dump_json(), dataset)
        if freeze_layers is None:
            freeze_layers = self._shard[0][2] if self._shard is not None and self._shard[0][:2] == name else 0
        key = (*name, freeze_layers, hold_out)
        if self._shard is None or self._shard[0] != key:
            found = shards.read(self._root, dataset)
            training, held_out = shards.split(found) if hold_out else (found, found.take([]))
            network = self.network(spec)
            encoded = (network.encoded(samples.texts, samples.labels) for samples in (training, held_out))
            self._shard = (key, EncodedShard(*(self._above(network, part, freeze_layers) for part in encoded)))
        return self._shard[1]

    def samples(self, spec: ModelSpec, dataset: str, freeze_layers: int = 0) -> EncodedTexts:
        """All samples that `dataset` names, unsplit: validation data."""
        stats = [(path, path.stat()) for path in self._root.files(dataset)]
        stamps = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
        key = (spec.model_dump_json(), dataset, freeze_layers, *stamps)
        if self._samples is None or self._samples[0] != key:
            network, found = self.network(spec), shards.read(self._root, dataset)
            self._samples = (key, self._above(network, network.encoded(found.texts, found.labels), freeze_layers))
        return self._samples[1]

    def _above(self, network: Network, encoded: EncodedTexts, freeze_layers: int) -> EncodedTexts:
        # The frozen layers are those of any global model of the training: nothing ever changes them.
        return with_activations(network.model, freeze_layers, encoded, self._root.models) if freeze_layers else encoded

    def metrics_of(self, digest: str) -> HeldOutMetrics | None:
        """What this agent has measured of a model on data that it holds out."""
        return self._measured.get(digest)

    def store_metrics(self, digest: str, found: HeldOutMetrics) -> None:
        self._measured[digest] = found
        for old in list(self._measured)[:-_MOST_MEASURED]:
            del self._measured[old]

    def clear_data(self) -> None:
        """The next training looks at the files anew."""
        self._shard = self._samples = None
