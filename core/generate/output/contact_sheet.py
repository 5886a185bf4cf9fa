"""A contact sheet: one row per study, one column per modality, and several where its units ask for windows."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.flow.run import Run
from core.io import atomic_write
from core.preprocess.intensity import windows_of
from core.types import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

_CELL, _MARGIN, _HEAD = 192, 6, 22
_LETTERS = 34  # of text in a line of a cell
_LINES = 15
_COMMAND = "MedWeave command"
_WARNING = "SYNTHETIC, not a patient"
_COLOURS = 3  # channels of a picture in colour
_WINDOWS = 2  # columns of a modality that declares windows
_WIDTH = 5.6  # pixels of a letter, on average


@dataclass(frozen=True)
class Column:
    """A column of the sheet: a modality and its title; ``window``: what is black and what is white, in [-1, 1]."""

    modality: str
    title: str
    window: tuple[float, float] = (-1.0, 1.0)


def columns_of(run: Run, names: Iterable[str]) -> list[Column]:
    """Return the columns of these modalities: one each, and one for each of the first windows that it declares."""
    columns = []
    for name in names:
        title, spec = run.modalities[name].title, run.parts(name).data
        windows = windows_of(run.parts(name).preprocess)
        (low, high), shown = spec.value_range, list(windows.items())[:_WINDOWS]
        for window, (centre, width) in shown:
            ends = (centre - width / 2, centre + width / 2)
            scaled = tuple(2 * (end - low) / (high - low) - 1 for end in ends)
            columns.append(Column(name, f"{title}, {window}", (scaled[0], scaled[1])))
        if not shown:
            columns.append(Column(name, title))
    return columns


def contact_sheet(
    studies: Sequence[Mapping[str, Sample]], columns: Sequence[Column], rows: Sequence[str] = ()
) -> Image:
    """Return a picture of canonical samples (grids in [-1, 1]) and restored texts, a row per study.

    ``rows`` names the studies. A volume shows its middle section, a vector a bar per number.
    """
    from PIL import Image, ImageDraw

    step = _CELL + _MARGIN
    in_colour = any(_is_colour(sample) for study in studies for sample in study.values())
    sheet = Image.new(
        "RGB" if in_colour else "L",
        (len(columns) * step + _MARGIN, len(studies) * (step + _HEAD) + _HEAD + _MARGIN),
        255,
    )
    draw = ImageDraw.Draw(sheet)
    for number, column in enumerate(columns):
        left, name = _MARGIN + number * step, column.modality
        draw.text((left, 4), column.title, fill="black")
        for row, study in enumerate(studies):
            corner = (left, _HEAD + row * (step + _HEAD))
            if number == 0 and row < len(rows):
                draw.text(corner, _cut(rows[row], len(columns) * step), fill="dimgray")
            if name in study:
                sheet.paste(_cell(study[name], column.window), (corner[0], corner[1] + _HEAD - 4))
    return sheet


def write_sheet(sheet: Image, path: Path, *, synthetic: bool = True, but: str = "", command: str = "") -> None:
    """Write a sheet as PNG. A ``synthetic`` one is marked as such, visibly and in its metadata, ``but`` for real parts.

    ``command``: JSON, how its studies were generated.
    """
    from PIL.PngImagePlugin import PngInfo

    from core.io.provenance import SYNTHETIC

    text = PngInfo()
    if synthetic:
        aside = f" (but for the {but})" if but else ""
        sheet = with_warning(sheet, _WARNING + aside)
        text.add_text("Synthetic", "true")
        text.add_text("Description", SYNTHETIC + aside)
        if command:
            text.add_itxt(_COMMAND, command)
    with atomic_write(path, overwrite=True) as temporary:
        sheet.save(temporary, format="PNG", pnginfo=text)


def with_warning(sheet: Image, warning: str = _WARNING) -> Image:
    """Return the sheet below a black strip with a white warning: metadata get lost when pictures are copied."""
    from PIL import Image, ImageDraw

    marked = Image.new(sheet.mode, (sheet.width, sheet.height + _HEAD), 0)
    ImageDraw.Draw(marked).text((_MARGIN, 4), warning, fill="white")
    marked.paste(sheet, (0, _HEAD))
    return marked


def _cell(sample: Sample, window: tuple[float, float]) -> Image:
    from PIL import Image, ImageDraw

    if isinstance(sample.data, str):
        cell = Image.new("L", (_CELL, _CELL), 240)
        lines = [line for part in sample.data.splitlines() for line in textwrap.wrap(part, _LETTERS)]
        shown = lines[:_LINES] + (["..."] if len(lines) > _LINES else [])
        ImageDraw.Draw(cell).multiline_text((4, 4), "\n".join(shown), fill=0, font_size=10)
        return cell
    low, high = window
    plane = np.clip((_plane(sample.data) - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)
    return _fitted(Image.fromarray(plane))


def _is_colour(sample: Sample) -> bool:
    return not isinstance(sample.data, str) and sample.data.ndim == 3 and len(sample.data) == _COLOURS


def _cut(text: str, pixels: int) -> str:
    """Return as much of a text as fits into a line of the sheet."""
    most = int(pixels / _WIDTH)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _plane(data: np.ndarray) -> np.ndarray:
    """Return the first channel as ``H W``, or a picture in colour as ``H W 3``."""
    if data.ndim == 3 and len(data) == _COLOURS:
        return data.transpose(1, 2, 0)
    first = data[0] if data.ndim > 1 else data[None].repeat(8, 0)
    return first[len(first) // 2] if first.ndim == 3 else first


def _fitted(picture: Image) -> Image:
    """Return a picture enlarged to the cell, with its proportions."""
    from PIL import Image

    factor = _CELL / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    cell = Image.new(picture.mode, (_CELL, _CELL), 0)
    cell.paste(picture.resize(size, Image.Resampling.BICUBIC), ((_CELL - size[0]) // 2, (_CELL - size[1]) // 2))
    return cell
