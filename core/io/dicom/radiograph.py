"""Projection radiographs in DICOM: computed and digital radiography.

A file states its view in up to three ways; they must agree, and nothing is guessed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveFloat

from core.contract.modality import PartConfig
from core.errors import MedWeaveWarning, UserError
from core.io.dicom.grayscale import (
    PixelLayout,
    interest_of,
    is_padding,
    layout_of,
    modality_of,
    read_pixels,
    with_display_polarity,
)
from core.io.dicom.header import Header
from core.io.dicom.instance import SUFFIXES, collect_warnings, read_header
from core.io.dicom.mark import read_mark
from core.io.files import decoding, require_no_nul
from core.io.geometry import Orientation, centred
from core.io.provenance import Mark
from core.types import Sample

View = Literal["frontal", "lateral", "PA", "AP", "LL", "RL"]
Plane = Literal["frontal", "lateral"]

# View Position (0018,5101), PS3.3 C.8.1.1, and how scanners spell it.
_POSITIONS: dict[str, View] = {
    "PA": "PA",
    "AP": "AP",
    "LL": "LL",
    "RL": "RL",
    "LLAT": "LL",
    "RLAT": "RL",
    "LEFT LATERAL": "LL",
    "RIGHT LATERAL": "RL",
    "LAT": "lateral",
    "LATERAL": "lateral",
    "FRONTAL": "frontal",
}
# View Code Sequence (0054,0220), PS3.16 CID 4010, SNOMED CT.
_CODES: dict[str, View] = {
    "272479007": "PA",
    "399348003": "AP",
    "399033003": "frontal",
    "399173006": "LL",
    "399198007": "RL",
    "399067008": "lateral",
}
_PLANES: dict[str, Plane] = {
    "PA": "frontal",
    "AP": "frontal",
    "frontal": "frontal",
    "LL": "lateral",
    "RL": "lateral",
    "lateral": "lateral",
}
_LETTERS = {"R": "R", "L": "L", "A": "A", "P": "P", "H": "S", "F": "I"}
_AXES: dict[frozenset[str], Plane] = {frozenset("RS"): "frontal", frozenset("AS"): "lateral"}
_AXIS = {"R": "R", "L": "R", "A": "A", "P": "A", "S": "S", "I": "S"}


@dataclass(frozen=True)
class StatedView:
    """``name`` as in `View`, or what the file says instead; ``source`` where it says so."""

    name: str
    source: str

    @property
    def plane(self) -> Plane | None:
        """Frontal, lateral, or another."""
        return _PLANES.get(self.name)


def stated_orientation(header: Header) -> str | None:
    """Return where rows (first letter) and columns run, from Patient Orientation (0020,0020); ``None`` without it.

    The file states the direction *of a row* first, that is where columns run to. Of a slanted axis the first, largest
    part counts. `UserError` where it is no pair of directions of a standing patient.
    """
    words = header.words("PatientOrientation")
    if not words:
        return None
    letters = [_LETTERS.get(word[0], "") for word in words]
    if len(letters) != 2 or not all(letters) or _AXIS[letters[0]] == _AXIS[letters[1]]:
        raise UserError(
            f"{header.path}: PatientOrientation is {header.text('PatientOrientation')}, expected two directions of"
            " R/L, A/P and H/F, one for rows and one for columns; correct it"
        )
    return letters[1] + letters[0]


def stated_view(header: Header) -> StatedView | None:
    """Return the most exact view that the file states; ``None`` without one; `UserError` on a contradiction."""
    views = [*_by_position(header), *_by_code(header), *_by_orientation(header)]
    for view in views[1:]:
        first = views[0]
        exact = {name for name in (first.name, view.name) if name not in ("frontal", "lateral")}
        if first.plane != view.plane or (len(exact) > 1):
            raise UserError(
                f"{header.path}: contradicts itself: {first.source} says {first.name}, {view.source} says {view.name};"
                " correct the header"
            )
    return min(views, key=lambda view: view.name in ("frontal", "lateral"), default=None)


def _by_position(header: Header) -> list[StatedView]:
    position = header.word("ViewPosition")
    return [StatedView(_POSITIONS.get(position, position), "ViewPosition")] if position else []


def _by_code(header: Header) -> list[StatedView]:
    from pydicom.sr.coding import Code

    views = []
    for item in header.items("ViewCodeSequence"):
        code = Code(item.text("CodeValue"), item.text("CodingSchemeDesignator"), item.text("CodeMeaning"))
        # Equality of codes knows the older SNOMED-RT identifiers.
        name = next((view for value, view in _CODES.items() if code == Code(value, "SCT", "")), None)
        views.append(StatedView(name or item.text("CodeMeaning") or code.value, "ViewCodeSequence"))
    return views


def _by_orientation(header: Header) -> list[StatedView]:
    letters = stated_orientation(header)
    if letters is None:
        return []
    plane = _AXES.get(frozenset(_AXIS[letter] for letter in letters))
    return [StatedView(plane or f"axes {letters}", "PatientOrientation")]


# Where a spacing was measured; the first that is stated counts (PS3.3 10.7.1.3).
_SPACINGS = {
    "PixelSpacing": "calibrated",
    "ImagerPixelSpacing": "detector",
    "NominalScannedPixelSpacing": "scanned film",
}


class RadiographReaderConfig(PartConfig):
    """A reader of one projection, as MedCoDi-M 3.1 has it: [0, 1] is the share of what the bit depth can say.

    ``orientation``: where rows and columns run in files that do not say (Patient Orientation). ``views``: those
    accepted, a plane or exact ones; none: any. ``unstated``: what a file does that states no view. ``kinds``: values of
    Modality (0008,0060). ``voi``: apply the file's window or table (the ``voi_index``-th) where it states one, or none.
    ``raw``: read images FOR PROCESSING too. ``burned_in``: read images too that say a name is burned into them.
    """

    modality: str
    orientation: Orientation
    views: tuple[View, ...] = ()
    unstated: Literal["refuse", "trust"] = "refuse"
    kinds: tuple[str, ...] = ("CR", "DX")
    voi: Literal["stated", "ignore"] = "stated"
    voi_index: NonNegativeInt = 0
    raw: bool = False
    burned_in: bool = False
    max_megapixels: PositiveFloat = 80.0

    def build(self) -> RadiographReader:
        """Make the reader."""
        return RadiographReader(self)


class RadiographReader:
    """Reads a projection into float32 ``1 H W``; its geometry is `core.io.centred`, for its position is not known."""

    suffixes = SUFFIXES

    def __init__(self, config: RadiographReaderConfig) -> None:
        self.config = config

    def read(self, path: Path) -> Sample:
        """Return the projection, bright where the body is dense; `UserError` that names the file for all else."""
        path = require_no_nul(path)
        with collect_warnings(path), decoding(path, "DICOM"):
            header = read_header(path)
            self._check_kind(header)
            view = self._view(header)
            layout = layout_of(header, self.config.max_megapixels)
            if layout.frames != 1:
                raise UserError(f"{path}: holds {layout.frames} frames, expected one projection; split it into files")
            mark = read_mark(header.dataset, path)
            data = self._share(header, layout)
            return self._sample(header, layout, view, data, mark)

    def _check_kind(self, header: Header) -> None:
        require_kind(header, self.config.kinds, self.config.burned_in)
        if header.word("PresentationIntentType") == "FOR PROCESSING" and not self.config.raw:
            raise UserError(
                f"{header.path}: is raw (FOR PROCESSING), not as radiologists see it; name the image FOR PRESENTATION,"
                " or set raw = true"
            )

    def _view(self, header: Header) -> StatedView | None:
        view, config = stated_view(header), self.config
        accepted = ", ".join(config.views)
        if view is None and config.views and config.unstated == "refuse":
            raise UserError(
                f"{header.path}: states no view (ViewPosition, ViewCodeSequence, PatientOrientation), and {accepted} is"
                ' expected; sort the files by view, then set unstated = "trust"'
            )
        if view is not None and config.views and not {view.name, view.plane} & set(config.views):
            raise UserError(
                f"{header.path}: {view.source} says {view.name}, and {config.modality} takes {accepted};"
                " give it to the modality of that view"
            )
        return view

    def _share(self, header: Header, layout: PixelLayout) -> np.ndarray:
        """Apply modality, values of interest and polarity; return the fraction of the range, ``1 rows columns``."""
        stored = read_pixels(header, layout)
        padding = is_padding(stored, header, layout)
        modality = modality_of(header, layout)
        values = modality.apply(stored)
        interest = interest_of(header, layout, self.config.voi_index) if self.config.voi == "stated" else None
        low, high = modality.limits
        share = (values - low) / (high - low) if interest is None else interest(values)
        share = with_display_polarity(share, header, layout)
        if padding is not None and lies_apart(stored, padding, header.path):
            share = np.where(padding, 0.0, share)  # what the collimator hides is black, whatever the polarity
        return share.astype(np.float32)

    def _sample(
        self, header: Header, layout: PixelLayout, view: StatedView | None, data: np.ndarray, mark: Mark | None
    ) -> Sample:
        spacing, measured = _spacing(header)
        meta: dict[str, Any] = {"path": str(header.path), "units": "a.u.", "spacing_known": spacing is not None}
        if mark is not None:
            low, high = mark.value_range or (0.0, 1.0)
            data = (low + data * (high - low)).astype(np.float32)
            meta |= mark.meta()
        geometry = centred(
            data.shape[1:],
            spacing or (1.0, 1.0),
            stated_orientation(header) or self.config.orientation,
            projection=True,
            bits=layout.bits_stored,
            **({} if view is None else {"view": view.name}),
            **({} if measured is None else {"spacing": measured}),
        )
        written = None if mark is None else mark.geometry(data.shape[1:], header.path)
        if written is not None and np.allclose(written.spacing_mm, geometry.spacing_mm, rtol=1e-6):
            geometry = written
        return Sample(modality=self.config.modality, data=data, geometry=geometry, meta=meta)


def require_kind(header: Header, kinds: tuple[str, ...], burned_in: bool) -> None:
    """Raise `UserError` for another Modality (0008,0060), and for a name that is said to be burned into the pixels."""
    kind = header.word("Modality")
    if kinds and kind not in kinds:
        raise UserError(
            f"{header.path}: its Modality is {kind or 'not stated'}, expected {' or '.join(kinds)}; give it to the"
            " modality it belongs to, or add it to kinds"
        )
    if header.word("BurnedInAnnotation") == "YES" and not burned_in:
        raise UserError(
            f"{header.path}: says that its pixels show whose image it is (BurnedInAnnotation); blacken the text, or set"
            " burned_in = true"
        )


def lies_apart(values: np.ndarray, padding: np.ndarray, path: Path) -> bool:
    """Return whether the padding lies below or above all other values; amid them it is none, and a warning says so."""
    real, padded = values[~padding], values[padding]
    if real.size == 0:
        raise UserError(f"{path}: holds nothing but padding (PixelPaddingValue); leave it out")
    if padded.max() < real.min() or padded.min() > real.max():
        return True
    warnings.warn(
        MedWeaveWarning(f"{path}: its PixelPaddingValue lies amid its other values, so nothing is taken for padding"),
        stacklevel=2,
    )
    return False


def _spacing(header: Header) -> tuple[tuple[float, float] | None, str | None]:
    for keyword, measured in _SPACINGS.items():
        if (spacing := header.lengths_mm(keyword)) is not None:
            return spacing, measured
    ratio = header.numbers("PixelAspectRatio", 2)
    if ratio is not None and ratio[0] != ratio[1]:
        raise UserError(f"{header.path}: has oblong pixels and states no spacing; export it again")
    return None, None
