"""Given CLIP text encoders as a prompt encoder: one, or two as Stable Diffusion XL has (method E1; MediSyn).

They are read from a local folder in the layout of transformers or diffusers, safetensors only, without a network
connection, and stay frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from core.errors import UserError
from core.types import Batch, Prompt

_FOLDERS = (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2"))


class ClipTextEncoders(nn.Module):
    """The tokens of all encoders side by side, and the pooled vector of the last one at unit norm.

    With two encoders the tokens are those of the last but one layer, as in Stable Diffusion XL; of a single one, those
    of the last. A text longer than the encoders read is encoded in pieces, whose tokens are concatenated and whose
    pooled vectors are averaged. Padding is attended to, as Stable Diffusion was trained. ``decode`` turns one row of
    token ids of a `Batch` into its text, which the folder's own tokenizers then read.

    Raises `UserError` where the folder holds no such encoders.
    """

    def __init__(self, folder: str, decode: Callable[[Tensor], str]) -> None:
        super().__init__()
        folders = encoder_folders(Path(folder).expanduser())
        self._decode, self._tokenizers = decode, [_tokenizer(tokenizer) for _, tokenizer in folders]
        self.encoders = nn.ModuleList([_encoder(encoder) for encoder, _ in folders])
        self.requires_grad_(False).eval()
        configs: list[Any] = [encoder.config for encoder in self.encoders]
        self._length = min(int(config.max_position_embeddings) for config in configs)
        self.token_width = sum(int(config.hidden_size) for config in configs)
        projected = hasattr(self.encoders[-1], "text_projection")
        self.width = int(configs[-1].projection_dim if projected else configs[-1].hidden_size)

    def train(self, mode: bool = True) -> ClipTextEncoders:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, batch: Batch) -> Prompt:
        """Encode ``batch.data`` int64 ids ``batch length`` to a `Prompt`; token 0 is the start token."""
        lengths = [batch.data.shape[1]] * len(batch) if batch.mask is None else batch.mask.sum(1).tolist()
        texts = [self._decode(ids[:length].cpu()) for ids, length in zip(batch.data, lengths, strict=True)]
        pieces = [self._pieces(text) for text in texts]
        flat = [piece for of_text in pieces for piece in of_text]
        hidden, pooled = self._encode(flat, batch.data.device)
        counts = [len(of_text) for of_text in pieces]
        tokens = pad_sequence([part.flatten(0, 1) for part in hidden.split(counts)], batch_first=True)
        visible = torch.tensor(counts, device=tokens.device)[:, None] * self._length
        means = torch.stack([part.float().mean(0) for part in pooled.split(counts)])
        return Prompt(
            tokens=tokens,
            pooled=F.normalize(means, dim=-1),
            mask=torch.arange(tokens.shape[1], device=tokens.device) < visible,
        )

    def _pieces(self, text: str) -> list[list[int]]:
        """Return the ids of a text, without start and end, in pieces that each fit; the tokenizers agree on them."""
        ids: list[int] = self._tokenizers[0](text, add_special_tokens=False)["input_ids"]
        room = self._length - 2
        return [ids[start : start + room] for start in range(0, max(len(ids), 1), room)]

    def _encode(self, pieces: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the tokens ``piece length token_width`` and the last encoder's pooled vectors ``piece width``."""
        features, pooled = [], torch.empty(0)
        for tokenizer, encoder in zip(self._tokenizers, self.encoders, strict=True):
            rows = [[tokenizer.bos_token_id, *piece, tokenizer.eos_token_id] for piece in pieces]
            padded = [[*row, *[tokenizer.pad_token_id] * (self._length - len(row))] for row in rows]
            output = encoder(input_ids=torch.tensor(padded, device=device), output_hidden_states=True)
            several = len(self.encoders) > 1
            features.append(output.hidden_states[-2] if several else output.last_hidden_state)
            pooled = output.text_embeds if hasattr(output, "text_embeds") else output.pooler_output
        return torch.cat(features, dim=-1), pooled


def holds_clip(folder: Path) -> bool:
    """Return whether a folder has the layout of given text encoders."""
    return (folder / "config.json").is_file() or (folder / _FOLDERS[0][0] / "config.json").is_file()


def encoder_folders(folder: Path) -> list[tuple[Path, Path]]:
    """Return the folders of encoders and of their tokenizers; `UserError` where there are none."""
    if (folder / "config.json").is_file():
        inside = folder / "tokenizer"
        return [(folder, inside if inside.is_dir() else folder)]
    folders = [
        (folder / encoder, folder / tokenizer)
        for encoder, tokenizer in _FOLDERS
        if (folder / encoder / "config.json").is_file()
    ]
    if not folders:
        what = "holds no text encoder" if folder.is_dir() else "is not a folder"
        raise UserError(
            f"init_from '{folder}' {what}; give a folder of a CLIP text model, or one with text_encoder/ and tokenizer/"
            " in it (and text_encoder_2/ and tokenizer_2/, as Stable Diffusion XL has)"
        )
    return folders


def _tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"init_from: the tokenizer in '{folder}' cannot be loaded: {str(error)[:200]}") from error


def _encoder(folder: Path) -> nn.Module:
    """Load one text model; `UserError` for another kind of network, and where a weight is missing or unexpected."""
    from transformers import AutoConfig, CLIPTextModel, CLIPTextModelWithProjection
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        projected = any("Projection" in name for name in config.architectures or ())
        kind: Any = CLIPTextModelWithProjection if projected else CLIPTextModel
        network, report = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"init_from: the text encoder in '{folder}' cannot be loaded: {str(error)[:200]}") from error
    finally:
        if shown:
            logging.enable_progress_bar()
    missing = [*report["missing_keys"], *report["mismatched_keys"]]
    if config.model_type != "clip_text_model" or missing:
        raise UserError(
            f"init_from: '{folder}' holds no CLIP text model (kind {config.model_type}, missing weights:"
            f" {len(missing)}); give another folder"
        )
    return network
