"""Pretrained networks from local folders: safetensors only, every weight accounted for, no network connection.

diffusers networks are loaded as they are. BERT and GPT-2 (method E8) are loaded strictly with these exceptions:

- Position tables: their first ``length`` rows.
- BERT: pooler and heads are not part of the autoencoder; of the token types only row 0 is in use; key biases are
  dropped, since the softmax ignores them.
- Token table of GPT-2: taken where the vocabulary is that of the folder with MedWeave's three special tokens before it
  (text then passes through the ``tokenizer.json`` of the folder). Otherwise the table is trained anew, with a warning.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from core.errors import MedWeaveWarning, UserError, join_choices
from core.nn.size_checks import require_equal

_SPECIALS = 3
_CONFIG = "TextAutoencoderConfig"
_UNUSED = re.compile(r"pooler\.|cls\.|.*\.key\.bias$|.*position_ids$|.*\.attn\.(bias|masked_bias)$|lm_head\.")


def load_folder(kind: Any, source: str, subfolder: str) -> Any:
    """Load a diffusers network of class ``kind`` from ``source`` or from ``subfolder`` in it.

    Raises `UserError` where the folder is missing, has another kind of network or no safetensors, or where a weight is
    missing, unexpected or of another shape.
    """
    folder = _folder_of(source, subfolder)
    stored = kind.load_config(folder, local_files_only=True).get("_class_name", kind.__name__)
    if stored != kind.__name__:
        raise UserError(f"init_from '{folder}' holds a {stored}, needed is a {kind.__name__}")
    try:
        with warnings.catch_warnings():
            # On torch's meta device, where plans and checks build networks, torch warns of every weight.
            warnings.filterwarnings("ignore", message=".*copying from a non-meta parameter")
            network, report = kind.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"init_from '{folder}' cannot be loaded: {str(error)[:300]}") from error
    wrong = {name: report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys") if report[name]}
    if wrong or report["error_msgs"]:
        shown = "; ".join(
            f"{name.replace('_', ' ')}: {len(keys)}, e.g. {sorted(keys)[0]}" for name, keys in wrong.items()
        )
        raise UserError(
            f"init_from '{folder}' does not hold the weights of its config.json: {shown or report['error_msgs']}"
        )
    # from_pretrained returns networks in evaluation mode; those built from scratch are in training mode.
    return network.train()


def _folder_of(source: str, subfolder: str) -> Path:
    root = Path(source).expanduser()
    for folder in (root / subfolder, root):
        if (folder / "config.json").is_file():
            return folder
    what = "has no config.json" if root.is_dir() else "is not a folder"
    raise UserError(f"init_from '{source}' {what}; give a diffusers folder or one with '{subfolder}/config.json' in it")


def load_bert(network: nn.Module, source: str, length: int) -> None:
    """Fill a ``BertModel`` without pooler from a folder. Raises `UserError` where they do not fit."""
    sizes = {"width": "hidden_size", "depth": "num_hidden_layers", "num_heads": "num_attention_heads"}
    state = _state(network, source, "bert", sizes, "bert.")
    _shorten(state, "embeddings.position_embeddings.weight", length, source)
    _shorten(state, "embeddings.token_type_embeddings.weight", 1, source)
    _load(network, state, "embeddings.word_embeddings.weight", source)


def load_gpt2(network: nn.Module, source: str, length: int) -> None:
    """Fill a ``GPT2Model`` from a folder. Raises `UserError` where they do not fit."""
    sizes = {"decoder_width": "n_embd", "decoder_depth": "n_layer", "decoder_heads": "n_head"}
    state = _state(network, source, "gpt2", sizes, "transformer.")
    _shorten(state, "wpe.weight", length, source)
    _load(network, state, "wte.weight", source)


def _state(network: Any, source: str, kind: str, sizes: dict[str, str], prefix: str) -> dict[str, Tensor]:
    """Return the folder's weights under the network's names; `UserError` where sizes differ."""
    from safetensors.torch import load_file

    folder = Path(source).expanduser()
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        state = load_file(folder / "model.safetensors")
    except (OSError, ValueError) as error:
        raise UserError(f"'{source}' needs config.json and model.safetensors of a {kind}: {error}") from None
    require_equal(_CONFIG, "kind of network", kind, about.get("model_type"), f"'{source}'")
    for field, name in sizes.items():
        require_equal(_CONFIG, field, getattr(network.config, name), about.get(name), f"'{source}'")
    renamed = {_renamed(name.removeprefix(prefix)): value for name, value in state.items()}
    return {name: value for name, value in renamed.items() if not _UNUSED.match(name)}


def _renamed(name: str) -> str:
    """Return today's name of a weight: old files call weight and bias of a normalisation gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _shorten(state: dict[str, Tensor], name: str, rows: int, source: str) -> None:
    if len(state.get(name, ())) < rows:
        raise UserError(f"{_CONFIG}: {rows} rows of {name} are needed, '{source}' has {len(state.get(name, ()))}")
    state[name] = state[name][:rows]


def _load(network: nn.Module, state: dict[str, Tensor], words: str, source: str) -> None:
    fresh = network.state_dict()
    state[words] = _token_table(fresh[words], state.get(words), source)
    wrong = [name for name in fresh.keys() ^ state.keys() if name in fresh or name in state]
    wrong += [name for name in fresh.keys() & state.keys() if fresh[name].shape != state[name].shape]
    if wrong:
        raise UserError(f"{_CONFIG}: weights of '{source}' do not fit: {join_choices(sorted(wrong)[:4])}")
    network.load_state_dict(state, strict=True)


def _token_table(fresh: Tensor, stored: Tensor | None, source: str) -> Tensor:
    """Return the folder's token table after the special tokens, which start at its mean; ``fresh`` if tokens differ."""
    if stored is None or len(stored) + _SPECIALS != len(fresh):
        num_tokens = 0 if stored is None else len(stored)
        warnings.warn(
            MedWeaveWarning(
                f"'{source}' has {num_tokens} tokens, the vocabulary {len(fresh)}: token embeddings are learned anew"
            ),
            stacklevel=2,
        )
        return fresh
    table = stored.mean(0, keepdim=True).repeat(len(fresh), 1)
    table[_SPECIALS:] = stored
    return table
