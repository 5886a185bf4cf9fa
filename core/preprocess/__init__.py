"""File contents to the canonical form that every later step works on, and back. Imports no torch."""

from core.preprocess.collate import collate, uncollate
from core.preprocess.grid import GridConfig
from core.preprocess.labels import LabelPreprocessConfig, LabelViewsConfig
from core.preprocess.percentile import PercentilePreprocessConfig
from core.preprocess.range import RangePreprocessConfig
from core.preprocess.tokenizer import BpeTokenizerConfig
from core.preprocess.tokenizer_file import train_tokenizer
from core.preprocess.tokens import ByteTokenizerConfig
from core.preprocess.views import ViewsConfig

__all__ = [
    "BpeTokenizerConfig",
    "ByteTokenizerConfig",
    "GridConfig",
    "LabelPreprocessConfig",
    "LabelViewsConfig",
    "PercentilePreprocessConfig",
    "RangePreprocessConfig",
    "ViewsConfig",
    "collate",
    "train_tokenizer",
    "uncollate",
]
