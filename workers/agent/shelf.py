"""What an agent keeps in memory between requests: the network of its training, and its shard as token ids."""

import threading
from pathlib import Path

from workers.agent import data, tensors
from workers.agent.batches import Encoded
from workers.agent.model import Network, build
from workers.agent.paths import Root
from workers.agent.protocol import ModelSpec
from workers.agent.train import Shard


class Shelf:
    """One network and one shard at a time. Hold `lock` while the network's weights matter."""

    def __init__(self, root: Root) -> None:
        self.lock = threading.Lock()
        self._root = root
        self._network: tuple[str, Network] | None = None
        self._shard: tuple[tuple[str, str], Shard] | None = None

    def network(self, spec: ModelSpec) -> Network:
        key = spec.model_dump_json()
        if self._network is None or self._network[0] != key:
            self._network = (key, build(spec, self._root))
        return self._network[1]

    def loaded(self, spec: ModelSpec, path: Path) -> Network:
        """The network with the weights of a model file."""
        network = self.network(spec)
        tensors.load_into(network.model, tensors.read(path))
        return network

    def shard(self, spec: ModelSpec, dataset: str) -> Shard:
        """The samples that `dataset` names, split; read and tokenised once for a training."""
        key = (spec.model_dump_json(), dataset)
        if self._shard is None or self._shard[0] != key:
            training, held_out = data.split(data.read(self._root, dataset))
            network = self.network(spec)
            shard = Shard(
                network.encoded(training.texts, training.labels),
                network.encoded(held_out.texts, held_out.labels),
            )
            self._shard = (key, shard)
        return self._shard[1]

    def samples(self, spec: ModelSpec, dataset: str) -> Encoded:
        """All samples that `dataset` names, unsplit: validation data."""
        found = data.read(self._root, dataset)
        return self.network(spec).encoded(found.texts, found.labels)

    def forget_data(self) -> None:
        """The next training looks at the files anew."""
        self._shard = None
