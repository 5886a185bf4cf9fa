"""File contents to the canonical form that every later step works on, and back. Imports no torch."""

from core.preprocess.augment import ViewsConfig
from core.preprocess.collate import collate, uncollate
from core.preprocess.grid import GridConfig
from core.preprocess.intensity import PercentilePreprocessConfig, RangePreprocessConfig
from core.preprocess.labels import LabelPreprocessConfig, LabelViewsConfig
from core.preprocess.tokenizer import BpeTokenizerConfig, ByteTokenizerConfig, train_tokenizer

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
