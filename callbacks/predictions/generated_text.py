"""Callback that generates text while a language model is trained."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer

from callbacks.arguments import require
from callbacks.forward import isolated_forward
from callbacks.step_hooks import Observer
from callbacks.trainer_state import code_block, is_dry_run, tensorboard_writer


class GeneratedText(Observer):
    """Continuation of a prompt by the model, generated every `every_n_epochs` epochs.

    | key, file         | what                                  | when                   |
    |-------------------|---------------------------------------|------------------------|
    | generated/text    | prompt and continuation               | every `every_n_epochs` |
    | generated.txt     | the same, below a line with the epoch | every `every_n_epochs` |
    | (standard output) | the last text                         | end of fit             |

    The model must have `generate(prompt_ids, length, temperature, generator=...)`, the datamodule `encode` and
    `decode`. The callback has its own random generator, so training is the same with and without it.
    """

    def __init__(
        self, prompt: str = "The ", length: int = 200, temperature: float = 0.8, every_n_epochs: int = 1
    ) -> None:
        require(bool(prompt), "GeneratedText.prompt", "a text that is not empty", prompt)
        require(length > 0, "GeneratedText.length", "above 0", length)
        require(temperature > 0, "GeneratedText.temperature", "above 0", temperature)
        require(every_n_epochs > 0, "GeneratedText.every_n_epochs", "above 0", every_n_epochs)
        self.prompt, self.length, self.temperature = prompt, length, temperature
        self.every_n_epochs = every_n_epochs
        self.text = ""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        wanted = [(pl_module, "generate", "a text model such as LitTokenLSTM")]
        wanted += [(data, name, "text data") for name in ("encode", "decode")]
        for owner, method, remedy in wanted:
            if not callable(getattr(owner, method, None)):
                raise MisconfigurationException(
                    f"GeneratedText: {type(owner).__name__} has no {method}(). Use {remedy}, or remove the callback."
                )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if not due or not trainer.is_global_zero or is_dry_run(trainer):
            return
        self.text = self._generate(trainer, pl_module)
        header = f"--- epoch {trainer.current_epoch + 1}, step {trainer.global_step} ---"
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "generated.txt").open("a", encoding="utf-8") as file:
            file.write(f"{header}\n{self.text}\n\n")
        if (writer := tensorboard_writer(trainer)) is not None:
            writer.add_text("generated/text", code_block(self.text), trainer.global_step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.text and trainer.is_global_zero:
            print(f"Generated text:\n{self.text}", flush=True)

    def _generate(self, trainer: Trainer, pl_module: LightningModule) -> str:
        data = trainer.datamodule  # type: ignore[attr-defined]
        # The seed is the epoch, so a resumed run generates the same texts as an uninterrupted run.
        generator = torch.Generator(device=pl_module.device).manual_seed(trainer.current_epoch)
        ids = torch.as_tensor(data.encode(self.prompt), dtype=torch.int64, device=pl_module.device)
        with isolated_forward(pl_module):
            generated = pl_module.generate(ids, self.length, self.temperature, generator=generator)  # type: ignore[operator]
        text = str(data.decode(generated))
        # Some models return only the continuation, without the prompt.
        return text if torch.as_tensor(generated).numel() > self.length else self.prompt + text
