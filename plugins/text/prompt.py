"""The prompt encoder of reports: BERT from scratch, or encoders that are given (MediSyn)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.api import Sample
from core.nn import TextPromptEncoderConfig
from plugins.text.preprocess import ReportTokenizerConfig


class ReportPromptEncoderConfig(TextPromptEncoderConfig):
    """Configure the transformer that reads a report.

    ``init_from``: a folder to take the encoder from. A run folder gives the text prompt encoder that its phase `align`
    trained, at the same sizes. A folder of CLIP text models, as Stable Diffusion (XL) has them, gives these in place of
    the transformer; ``tokenizer`` is then the one whose ids the batches hold.
    """

    tokenizer: ReportTokenizerConfig
    init_from: str | None = None

    def build(self) -> Any:
        """Build the encoder, with random weights or those of ``init_from``. `UserError` for a wrong folder."""
        if self.init_from is None:
            return super().build()
        from core.nn import ClipTextEncoders, load_prompt_encoder

        folder = Path(self.init_from).expanduser()
        weights = next((path for path in _weight_files(folder) if path.is_file()), None)
        if weights is not None:
            return load_prompt_encoder(super().build(), weights)
        tokenizer = self.tokenizer.build()
        return ClipTextEncoders(
            self.init_from, lambda ids: str(tokenizer.invert(Sample(modality="text", data=ids.numpy())).data)
        )


def _weight_files(folder: Path) -> list[Path]:
    """Return where the weights of a text prompt encoder lie in a run folder, or in the folder of the weights alone."""
    return [folder / "align" / "text.prompt" / "weights.safetensors", folder / "weights.safetensors"]
