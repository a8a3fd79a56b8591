"""LSTM language model."""

from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lit_models.base.classifier import LitClassifier
from lit_models.base.shapes import positive_integer
from lit_models.lstm import check_dropout

Hidden = tuple[Tensor, Tensor]


class TokenLSTM(nn.Module):
    """Embedding, LSTM and linear layer, tokens `(B, T)` and state -> logits `(B, T, vocab_size)` and new state.

    >>> logits, state = TokenLSTM(vocab_size=7, hidden=8)(torch.zeros(2, 5, dtype=torch.long))
    >>> logits.shape
    torch.Size([2, 5, 7])
    """

    def __init__(
        self, vocab_size: int, embedding: int = 128, hidden: int = 256, layers: int = 2, dropout: float = 0.2
    ) -> None:
        super().__init__()
        positive_integer("embedding", embedding)
        positive_integer("hidden", hidden)
        dropout = check_dropout(dropout, layers)
        self.embedding = nn.Embedding(vocab_size, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True, dropout=dropout)
        self.head = nn.Linear(hidden, vocab_size)

    def forward(self, tokens: Tensor, state: Hidden | None = None, last: bool = False) -> tuple[Tensor, Hidden]:
        """Return logits and state; `last` computes only the logits `(B, 1, vocab_size)` of the last position."""
        states, state = self.lstm(self.embedding(tokens), state)
        return self.head(states[:, -1:] if last else states), state


class LitTokenLSTM(LitClassifier):
    """`TokenLSTM` that predicts the next token; targets `(B, T)` are the tokens shifted by one.

    Args:
        vocab_size: from the data.
        input_shape: (sequence length,), from the data, for the model graph and the model table only.
        embedding: size of a token's vector.
        hidden: size of the state.
        layers: number of LSTM layers.
        dropout: dropout rate between the layers.
        every_step: learn from every position of a window; false means the last position only.
        **kwargs: see `LitClassifier`.
    """

    machine_kind = "recurrent"
    token_inputs = True
    target_property = "vocab_size"
    counterpart = "LitLSTM"
    derived_arguments = ("num_classes",)

    def __init__(
        self,
        vocab_size: int | None = None,
        input_shape: tuple[int, ...] | None = None,
        embedding: int = 128,
        hidden: int = 256,
        layers: int = 2,
        dropout: float = 0.2,
        every_step: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape=input_shape, num_classes=vocab_size, **kwargs)
        self.vocab_size, self.every_step = self.num_classes, every_step
        self.example_input_array = torch.zeros(1, *(self.input_shape or (8,)), dtype=torch.int64)
        self.net = self.initialized(TokenLSTM(self.vocab_size, embedding, hidden, layers, dropout), fresh=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits `(B, T, vocab_size)` for an initial state of zeros; `net` takes and returns a state."""
        logits: Tensor = self.net(self.typed_input(tokens))[0]
        return logits

    def outputs(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.every_step:
            return self(x).flatten(0, 1), y.flatten()
        return self.final_output(x), y[:, -1]

    def final_output(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(self.typed_input(x), last=True)[0]
        return logits[:, 0]

    def predicted(self, output: Tensor, target: Tensor | None) -> dict[str, Tensor]:
        return super().predicted(output, None if target is None else target[:, -1])

    def data_properties(self) -> dict[str, Any]:
        return {"vocab_size": self.vocab_size}

    @torch.no_grad()
    def generate(
        self, prompt_ids: Tensor, length: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the prompt `(T,)` or `(B, T)` continued by `length` tokens.

        Temperature 0 takes the most probable token; higher values give more varied text. Tokens are sampled on the
        generator's device, by default the CPU, so that a seed gives the same text everywhere.
        """
        if length < 0 or temperature < 0 or prompt_ids.shape[-1] == 0:
            raise MisconfigurationException(
                "generate: length and temperature must be at least 0 and the prompt not empty, got length "
                f"{length}, temperature {temperature} and a prompt of {prompt_ids.shape[-1]} tokens. "
                "Pass for example length=100, temperature=1.0 and one token."
            )
        training = self.training
        self.eval()
        try:
            text = prompt_ids.reshape(-1, prompt_ids.shape[-1]).to(self.device, torch.int64)
            new: Tensor = text
            state: Hidden | None = None
            for _ in range(length):
                logits, state = self.net(new, state, last=True)
                new = self._sample(logits[:, 0].float(), temperature, generator)
                text = torch.cat((text, new), dim=1)
        finally:
            self.train(training)
        return text[0] if prompt_ids.dim() == 1 else text

    @staticmethod
    def _sample(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
        if temperature == 0:
            return logits.argmax(dim=1, keepdim=True)
        device = "cpu" if generator is None else generator.device
        probabilities = torch.softmax(logits / temperature, dim=1).to(device)
        return torch.multinomial(probabilities, 1, generator=generator).to(logits.device)
