"""Clipped and summed per-example gradients, as differential privacy needs them.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv:1607.00133. torch.func
computes the gradients of all examples of a batch at once. The word embeddings are an exception: a
gradient of the whole table for each example would not fit into memory. So each example has a
gradient with respect to its embedded words instead.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling.freezing import frozen_activations, read_by_layers, replaying
from workers.agent.modeling.network import Network
from workers.agent.privacy.unrolled import unrolled
from workers.agent.runtime.errors import AgentError

_MEMORY_BYTES = 256 * 2**20
_MOST_AT_ONCE = 64
_MASKED = torch.finfo(torch.float32).min
_ARCHITECTURES_WITH_A_CHOICE_OF_ATTENTION = ("transformer", "gpt")


class PerExampleGradients:
    """Sums of clipped per-example gradients of the trainable parameters."""

    def __init__(self, network: Network, largest_norm: float) -> None:
        self._network = network
        self._norm = largest_norm
        model = network.model
        self._words = _words(model)
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._table = next((name for name, parameter in trained.items() if self._is_table(parameter)), None)
        self._trained = {name: parameter for name, parameter in trained.items() if name != self._table}
        numbers = sum(parameter.numel() for parameter in self._trained.values())
        self._at_once = max(1, min(_MOST_AT_ONCE, _MEMORY_BYTES // (4 * max(1, numbers))))

    def _is_table(self, parameter: nn.Parameter) -> bool:
        return self._words is not None and parameter is self._words.weight

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Within this context, the model computes only with operations that vmap supports."""
        model: Any = self._network.model
        with ExitStack() as back:
            if self._network.spec.architecture in _ARCHITECTURES_WITH_A_CHOICE_OF_ATTENTION:
                before = model.config._attn_implementation
                model.set_attn_implementation("eager")
                back.callback(model.set_attn_implementation, before)
            back.enter_context(unrolled(model))
            yield

    def zeros(self) -> dict[str, torch.Tensor]:
        """Return a zero sum for each trainable parameter."""
        model = dict(self._network.model.named_parameters())
        names = [*self._trained, *([self._table] if self._table else [])]
        return {name: torch.zeros_like(model[name]) for name in names}

    def add(self, total: dict[str, torch.Tensor], data: EncodedTexts, batch: Any, ids: torch.Tensor | None = None) -> None:
        """Add the clipped gradients of a batch to `total`.

        `batch` holds indices into `data`. Each gradient is scaled down to the largest norm. A
        gradient that is not finite counts as zero. `ids` replaces the texts' token ids, in the same
        shape.
        """
        for start in range(0, len(batch), self._at_once):
            part = batch[start : start + self._at_once]
            width = int(data.lengths[part].max())
            part_ids = None
            if ids is not None:
                part_ids = ids[start : start + self._at_once]
                part_ids = part_ids[:, -width:] if data.pad_left else part_ids[:, :width]
            self._add(total, data, part, part_ids)

    def _add(self, total: dict[str, torch.Tensor], data: EncodedTexts, batch: Any, ids: torch.Tensor | None) -> None:
        texts, mask = data.batch(batch)
        texts = texts if ids is None else ids
        above = frozen_activations(self._network.model, data, batch) if data.frozen_layers else None
        with torch.no_grad():
            by_name, by_word = self._gradients(texts, mask, data.targets(batch), above, data.frozen_layers)
            square = sum((gradient.flatten(1).square().sum(1) for gradient in by_name.values()), start=torch.zeros(len(batch)))
            if by_word is not None:
                texts = _read(self._network, texts)
                by_word = by_word.reshape(len(batch), texts.shape[1], -1)
                padding = self._words.padding_idx if self._words is not None else None
                if padding is not None:
                    by_word = by_word * (texts != padding).unsqueeze(2)
                # A repeated word has one row in the table, so its gradients add up in the norm.
                same_word = (texts.unsqueeze(2) == texts.unsqueeze(1)).to(by_word.dtype)
                square = square + ((by_word @ by_word.transpose(1, 2)) * same_word).sum((1, 2))
            norm = square.clamp_min(0).sqrt()
            finite = torch.isfinite(norm)
            scale = torch.where(finite, (self._norm / norm.clamp_min(1e-12)).clamp(max=1.0), 0.0)
            for name, gradient in by_name.items():
                kept = gradient if bool(finite.all()) else torch.nan_to_num(gradient, 0.0, 0.0, 0.0)
                total[name].add_(torch.tensordot(scale, kept, dims=1))
            if by_word is not None and self._table is not None:
                kept = torch.nan_to_num(by_word, 0.0, 0.0, 0.0) * scale[:, None, None]
                total[self._table].index_add_(0, texts.reshape(-1), kept.flatten(0, 1))

    def _gradients(
        self, texts: torch.Tensor, mask: torch.Tensor, targets: torch.Tensor, above: torch.Tensor | None, layers: int
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Return the gradients of each example.

        The first result maps parameters to shape (examples, *shape). The second is with respect to
        the embedded words.
        """
        network, model = self._network, self._network.model
        names = {id(parameter): name for name, parameter in self._trained.items()}
        added = None
        if self._table is not None and self._words is not None:
            added = torch.zeros(*_read(network, texts).shape, self._words.embedding_dim)
        with ExitStack() as wrapped:
            player = wrapped.enter_context(replaying(model, layers)) if above is not None else None
            # Without its frozen layers, the model numbers the other layers from 0 again.
            trainable = {
                current: parameter.detach() for current, parameter in model.named_parameters() if id(parameter) in names
            }
            back = {current: names[id(parameter)] for current, parameter in model.named_parameters() if id(parameter) in names}
            everything = (*model.named_parameters(), *model.named_buffers())
            fixed = {current: tensor.detach() for current, tensor in everything if current not in trainable}

            def loss(
                trained: dict[str, torch.Tensor],
                added_to_words: torch.Tensor | None,
                text: torch.Tensor,
                text_mask: torch.Tensor,
                target: torch.Tensor,
                hidden: torch.Tensor | None,
            ) -> torch.Tensor:
                if player is not None and hidden is not None:
                    player.seen = hidden.unsqueeze(0)
                with _added_to_words(self._words, added_to_words):
                    inputs = {"input_ids": text.unsqueeze(0), "attention_mask": _attention(network, _read(network, text_mask))}
                    logits = functional_call(model, {**fixed, **trained}, (), inputs).logits.float()
                return nn.functional.cross_entropy(logits, target.unsqueeze(0), label_smoothing=network.label_smoothing)

            dims = (None, None if added is None else 0, 0, 0, 0, None if above is None else 0)
            argnums = 0 if added is None else (0, 1)
            each = vmap(grad(loss, argnums=argnums), in_dims=dims, randomness="different")
            gradients = each(trainable, added, texts, mask, targets, above)
        by_name, by_word = (gradients, None) if added is None else gradients
        return {back[current]: gradient for current, gradient in by_name.items()}, by_word


def require_support(network: Network) -> None:
    """Check that the model supports per-example gradients.

    Raises:
        AgentError: `differential_privacy_unavailable`.
    """
    data = EncodedTexts.of(
        [[network.first_word_id] * 3, [network.first_word_id] * 2], [0, 1], network.pad_id, pad_left=network.pad_left
    )
    gradients = PerExampleGradients(network, 1.0)
    try:
        with gradients.prepared():
            gradients.add(gradients.zeros(), data, torch.arange(2).numpy())
    except Exception as error:  # noqa: BLE001 - foreign models raise all kinds of errors
        message = f"this model does not support per-example gradients ({type(error).__name__})"
        raise AgentError("differential_privacy_unavailable", message) from None


def _words(model: Any) -> nn.Embedding | None:
    try:
        embeddings = model.get_input_embeddings()
    except NotImplementedError:  # the cnn and the rnn of this project
        embeddings = model.embeddings
    return embeddings if isinstance(embeddings, nn.Embedding) and embeddings.weight.requires_grad else None


@contextmanager
def _added_to_words(words: nn.Embedding | None, added: torch.Tensor | None) -> Iterator[None]:
    """Within this context, `added` is added to the embedded words.

    It is zero. The gradient of the loss with respect to it is that of the embedded words.
    """
    if words is None or added is None:
        yield
        return
    hook = words.register_forward_hook(lambda _module, _inputs, output: output + added.reshape(output.shape))
    try:
        yield
    finally:
        hook.remove()


def _read(network: Network, texts: torch.Tensor) -> torch.Tensor:
    """Return the tokens that the deep network reads: shape (…, tokens)."""
    tokens = read_by_layers(network.model, texts.shape[-1])
    return texts[..., -tokens:] if network.pad_left else texts[..., :tokens]


def _attention(network: Network, text_mask: torch.Tensor) -> torch.Tensor:
    """Return the attention mask of one text.

    transformers inspects the values of a mask with two dimensions, and vmap does not allow that.
    It uses a mask with four dimensions, (1, 1, tokens, tokens), unchanged.
    """
    width = len(text_mask)
    match network.spec.architecture:
        case "transformer":
            return ((1 - text_mask).to(torch.float32) * _MASKED)[None, None, None, :].expand(1, 1, width, width)
        case "gpt":  # a word sees only earlier words, so that no word sees the padding on the right
            return torch.full((width, width), _MASKED).triu(1)[None, None]
        case _:
            return text_mask.unsqueeze(0)
