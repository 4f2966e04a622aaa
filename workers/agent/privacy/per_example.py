"""Per-example gradients, clipped and summed: what differential privacy needs of a model, vectorised over the examples.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv:1607.00133. torch.func gives the gradients of all
examples of a batch at once. The word embeddings are kept out of that: a gradient of the whole table for each example would
not fit, so each example's gradient with respect to the embedded words stands for it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling.freezing import frozen_activations, replaying
from workers.agent.modeling.network import Network
from workers.agent.privacy.unrolled import unrolled
from workers.agent.runtime.errors import AgentError

_MEMORY_BYTES = 256 * 2**20
_MOST_AT_ONCE = 64
_MASKED = torch.finfo(torch.float32).min
_ARCHITECTURES_WITH_A_CHOICE_OF_ATTENTION = ("transformer", "gpt")


class PerExampleGradients:
    """Sums of clipped per-example gradients of the parameters that are to be trained."""

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
        """While it lasts, the model computes in ways that vmap can follow."""
        model: Any = self._network.model
        with ExitStack() as back:
            if self._network.spec.architecture in _ARCHITECTURES_WITH_A_CHOICE_OF_ATTENTION:
                before = model.config._attn_implementation
                model.set_attn_implementation("eager")
                back.callback(model.set_attn_implementation, before)
            back.enter_context(unrolled(model))
            yield

    def zeros(self) -> dict[str, torch.Tensor]:
        model = dict(self._network.model.named_parameters())
        names = [*self._trained, *([self._table] if self._table else [])]
        return {name: torch.zeros_like(model[name]) for name in names}

    def add(self, total: dict[str, torch.Tensor], data: EncodedTexts, batch: Any, ids: torch.Tensor | None = None) -> None:
        """Add the gradients of `batch` (indices into `data`), each scaled down to the largest norm; a gradient that is not
        finite counts as zero. `ids` replaces the texts' token ids, in the same shape."""
        for start in range(0, len(batch), self._at_once):
            part = batch[start : start + self._at_once]
            width = int(data.lengths[part].max())
            own = None
            if ids is not None:
                own = ids[start : start + self._at_once]
                own = own[:, -width:] if data.pad_left else own[:, :width]
            self._add(total, data, part, own)

    def _add(self, total: dict[str, torch.Tensor], data: EncodedTexts, batch: Any, hidden_ids: torch.Tensor | None) -> None:
        texts, mask = data.batch(batch)
        texts = texts if hidden_ids is None else hidden_ids
        above = frozen_activations(data, batch) if data.activations is not None else None
        with torch.no_grad():
            by_name, by_word = self._gradients(texts, mask, data.targets(batch), above, data.frozen_layers)
            square = sum((gradient.flatten(1).square().sum(1) for gradient in by_name.values()), start=torch.zeros(len(batch)))
            if by_word is not None:
                by_word = by_word.reshape(len(batch), texts.shape[1], -1)
                padding = self._words.padding_idx if self._words is not None else None
                if padding is not None:
                    by_word = by_word * (texts != padding).unsqueeze(2)
                # The table's gradient adds up what falls on the same word; so does its norm.
                same = (texts.unsqueeze(2) == texts.unsqueeze(1)).to(by_word.dtype)
                square = square + ((by_word @ by_word.transpose(1, 2)) * same).sum((1, 2))
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
        """Gradients of each example, by parameter (examples, *shape) and by embedded word (examples, …)."""
        network, model = self._network, self._network.model
        names = {id(parameter): name for name, parameter in self._trained.items()}
        added = None
        if self._table is not None and self._words is not None:
            added = torch.zeros(*texts.shape, self._words.embedding_dim)
        with ExitStack() as wrapped:
            player = wrapped.enter_context(replaying(model, layers)) if above is not None else None
            # Without its frozen layers the model counts the others anew.
            own = {now: parameter.detach() for now, parameter in model.named_parameters() if id(parameter) in names}
            back = {now: names[id(parameter)] for now, parameter in model.named_parameters() if id(parameter) in names}
            everything = (*model.named_parameters(), *model.named_buffers())
            fixed = {now: tensor.detach() for now, tensor in everything if now not in own}

            def loss(
                trained: dict[str, torch.Tensor],
                beside: torch.Tensor | None,
                text: torch.Tensor,
                seen: torch.Tensor,
                target: torch.Tensor,
                hidden: torch.Tensor | None,
            ) -> torch.Tensor:
                if player is not None and hidden is not None:
                    player.seen = hidden.unsqueeze(0)
                with _beside(self._words, beside):
                    inputs = {"input_ids": text.unsqueeze(0), "attention_mask": _attention(network, seen)}
                    logits = functional_call(model, {**fixed, **trained}, (), inputs).logits.float()
                return nn.functional.cross_entropy(logits, target.unsqueeze(0), label_smoothing=network.label_smoothing)

            dims = (None, None if added is None else 0, 0, 0, 0, None if above is None else 0)
            wanted = 0 if added is None else (0, 1)
            each = vmap(grad(loss, argnums=wanted), in_dims=dims, randomness="different")
            found = each(own, added, texts, mask, targets, above)
        by_name, by_word = (found, None) if added is None else found
        return {back[now]: gradient for now, gradient in by_name.items()}, by_word


def check(network: Network) -> None:
    """AgentError `differential_privacy_unavailable` where a model cannot be differentiated example by example."""
    data = EncodedTexts.of(
        [[network.first_word_id] * 3, [network.first_word_id] * 2], [0, 1], network.pad_id, pad_left=network.pad_left
    )
    gradients = PerExampleGradients(network, 1.0)
    try:
        with gradients.prepared():
            gradients.add(gradients.zeros(), data, torch.arange(2).numpy())
    except Exception as error:  # noqa: BLE001 - models of others fail in ways of their own
        message = f"this model's gradients cannot be had example by example ({type(error).__name__})"
        raise AgentError("differential_privacy_unavailable", message) from None


def _words(model: Any) -> nn.Embedding | None:
    try:
        found = model.get_input_embeddings()
    except NotImplementedError:  # our own two, which transformers has no word for
        found = model.embeddings
    return found if isinstance(found, nn.Embedding) and found.weight.requires_grad else None


@contextmanager
def _beside(words: nn.Embedding | None, added: torch.Tensor | None) -> Iterator[None]:
    """`added` is a zero beside the embedded words: the loss's gradient with respect to it is theirs."""
    if words is None or added is None:
        yield
        return
    hook = words.register_forward_hook(lambda _module, _inputs, output: output + added.reshape(output.shape))
    try:
        yield
    finally:
        hook.remove()


def _attention(network: Network, seen: torch.Tensor) -> torch.Tensor:
    """The mask of one text. transformers looks into a mask of two dimensions, which vmap does not allow, and takes one of
    four, (1, 1, tokens, tokens), as it is."""
    width = len(seen)
    match network.spec.architecture:
        case "transformer":
            return ((1 - seen).to(torch.float32) * _MASKED)[None, None, None, :].expand(1, 1, width, width)
        case "gpt":  # a word sees those before it, so that padding, which is on the right, is seen by none
            return torch.full((width, width), _MASKED).triu(1)[None, None]
        case _:
            return seen.unsqueeze(0)
