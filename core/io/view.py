"""Which view a radiograph says it is. Stated three ways; they must agree, and nothing is guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.errors import UserError
from core.io.header import Header

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
    """Where rows (first letter) and columns run, from Patient Orientation (0020,0020); ``None`` where it is not stated.

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
    """The most exact of what the file states; ``None`` where it states nothing; `UserError` on a contradiction."""
    found = [*_by_position(header), *_by_code(header), *_by_orientation(header)]
    for one in found[1:]:
        first = found[0]
        exact = {name for name in (first.name, one.name) if name not in ("frontal", "lateral")}
        if first.plane != one.plane or (len(exact) > 1):
            raise UserError(
                f"{header.path}: contradicts itself: {first.source} says {first.name}, {one.source} says {one.name};"
                " correct the header"
            )
    return min(found, key=lambda one: one.name in ("frontal", "lateral"), default=None)


def _by_position(header: Header) -> list[StatedView]:
    said = header.word("ViewPosition")
    return [StatedView(_POSITIONS.get(said, said), "ViewPosition")] if said else []


def _by_code(header: Header) -> list[StatedView]:
    from pydicom.sr.coding import Code

    found = []
    for item in header.items("ViewCodeSequence"):
        said = Code(item.text("CodeValue"), item.text("CodingSchemeDesignator"), item.text("CodeMeaning"))
        # Equality of codes knows the older SNOMED-RT identifiers.
        name = next((view for value, view in _CODES.items() if said == Code(value, "SCT", "")), None)
        found.append(StatedView(name or item.text("CodeMeaning") or said.value, "ViewCodeSequence"))
    return found


def _by_orientation(header: Header) -> list[StatedView]:
    letters = stated_orientation(header)
    if letters is None:
        return []
    plane = _AXES.get(frozenset(_AXIS[letter] for letter in letters))
    return [StatedView(plane or f"axes {letters}", "PatientOrientation")]
