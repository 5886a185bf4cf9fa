"""Convert file contents to the canonical form that every later step works on, and back. Imports no torch."""

from core.preprocess.augment import AugmenterConfig
from core.preprocess.collate import collate, uncollate
from core.preprocess.grid import GridConfig
from core.preprocess.intensity import PercentileNormalizationConfig, WindowNormalizationConfig
from core.preprocess.labels import LabelAugmenterConfig, LabelPreprocessConfig
from core.preprocess.tokenizer import BpeTokenizerConfig, ByteTokenizerConfig, train_tokenizer

__all__ = [
    "AugmenterConfig",
    "BpeTokenizerConfig",
    "ByteTokenizerConfig",
    "GridConfig",
    "LabelAugmenterConfig",
    "LabelPreprocessConfig",
    "PercentileNormalizationConfig",
    "WindowNormalizationConfig",
    "collate",
    "train_tokenizer",
    "uncollate",
]
