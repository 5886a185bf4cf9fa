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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from core.errors import MedWeaveWarning, UserError, join_choices
from core.nn.schedule import BETA_END, BETA_START, log_snr_of_survival
from core.nn.size_checks import require_equal
from core.types import Objective

_SPECIALS = 3
_OBJECTIVES: dict[str, Objective] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "clean"}
_BETA_SETTINGS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)
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


@dataclass(frozen=True, eq=False)
class PretrainedLevels:
    """The noise levels of a pretrained denoiser: log-SNR by timestep (float64), and what it predicts, if known."""

    log_snr: Tensor
    objective: Objective | None


def load_levels(source: str, subfolder: str) -> PretrainedLevels:
    """Read ``scheduler/scheduler_config.json`` beside a denoiser: the timesteps that it was trained on (method E10).

    Where there is none, the schedule is that of Stable Diffusion, with a warning. Raises `UserError` for a schedule
    that has no betas (flow matching, EDM), and for a damaged file.
    """
    root, network = Path(source).expanduser(), _folder_of(source, subfolder)
    paths = [folder / "scheduler" / "scheduler_config.json" for folder in (root, network.parent)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        message = (
            f"init_from '{source}' has no scheduler/scheduler_config.json: its network is taken to know the timesteps"
            " of Stable Diffusion"
        )
        warnings.warn(MedWeaveWarning(message), stacklevel=2)
        return PretrainedLevels(_log_snr_of_scheduler({}), None)
    try:
        stored = dict(json.loads(path.read_text(encoding="utf-8")))
        kind = stored.get("prediction_type", "epsilon")
        if kind not in _OBJECTIVES:
            raise ValueError(f"prediction_type is '{kind}'")
        if "beta_schedule" not in stored and "trained_betas" not in stored:
            raise ValueError(f"{stored.get('_class_name')} has no betas")
        return PretrainedLevels(_log_snr_of_scheduler(stored), _OBJECTIVES[kind])
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise UserError(
            f"init_from '{source}': the schedule of {path} cannot be used ({type(error).__name__}: {error}); needed is"
            f" one of betas, with prediction_type {join_choices(list(_OBJECTIVES))}"
        ) from None


def _log_snr_of_scheduler(stored: dict[str, Any]) -> Tensor:
    """Return log-SNR by timestep of a diffusers scheduler; of that of Stable Diffusion where a setting is missing."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    settings: dict[str, Any] = {"beta_start": BETA_START, "beta_end": BETA_END, "beta_schedule": "scaled_linear"}
    settings |= {name: stored[name] for name in _BETA_SETTINGS if name in stored}
    return log_snr_of_survival(DDPMScheduler(**settings).alphas_cumprod.double())


def _folder_of(source: str, subfolder: str) -> Path:
    root = Path(source).expanduser()
    for folder in (root / subfolder, root):
        if (folder / "config.json").is_file():
            return folder
    what = "has no config.json" if root.is_dir() else "is not a folder"
    raise UserError(f"init_from '{source}' {what}; give a diffusers folder or one with '{subfolder}/config.json' in it")


def load_prompt_encoder(encoder: nn.Module, weights: Path) -> nn.Module:
    """Return a prompt encoder with the weights of a run; `UserError` where they are those of other sizes."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        encoder.load_state_dict(load_file(weights), strict=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"init_from: {weights} does not hold this prompt encoder ({reason}); give a run of the same preset"
        ) from error
    return encoder


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
