"""List the phrases of the report grammar. Writer and reader share them, so that each knows every phrase of the other.

In a template ``{grade}`` is an adjective, ``{gradely}`` an adverb, ``{side}`` left, right or the word for both,
``{zone}`` a height in the lung, ``{s}`` the plural ending of a bilateral finding, ``{size}`` a diameter.
"""

from __future__ import annotations

GRADE_WORDS = {
    "mild": ("mild", "small", "minimal", "slight", "subtle", "minor", "trace"),
    "moderate": ("moderate", "moderate-sized", "medium-sized"),
    "severe": ("severe", "large", "marked", "extensive", "massive"),
}
_EXTENT = {"mild": ("mild", "slight", "minimal"), "moderate": ("moderate",), "severe": ("severe", "marked")}
_VOLUME = {
    "mild": ("small", "trace", "minimal"),
    "moderate": ("moderate", "moderate-sized"),
    "severe": ("large", "massive"),
}
_SIZE = {"mild": ("small",), "moderate": ("medium-sized", "moderate-sized"), "severe": ("large",)}
_SPREAD = {"mild": ("mild", "subtle", "minor"), "moderate": ("moderate",), "severe": ("severe", "extensive")}
GRADES_OF = {
    "cardiomegaly": _EXTENT,
    "pleural_effusion": _VOLUME,
    "pneumothorax": {"mild": ("small", "minimal"), "moderate": ("moderate", "moderate-sized"), "severe": ("large",)},
    "consolidation": _SPREAD,
    "lung_lesion": _SIZE,
    "edema": _EXTENT,
    "atelectasis": {"mild": ("mild", "minimal", "minor"), "moderate": ("moderate",), "severe": ("severe", "marked")},
}
ADVERBS = {
    "mild": ("mildly", "slightly", "minimally"),
    "moderate": ("moderately",),
    "severe": ("severely", "markedly"),
}

PRESENT = {
    "cardiomegaly": (
        "{grade} cardiomegaly",
        "{grade} enlargement of the heart",
        "{grade} enlargement of the cardiac silhouette",
        "the heart is {gradely} enlarged",
        "the cardiac silhouette is {gradely} enlarged",
        "there is {grade} cardiomegaly",
    ),
    "pleural_effusion": (
        "{grade} {side} pleural effusion{s}",
        "{side} pleural effusion{s}, {grade}",
        "there is {grade} {side} pleural fluid",
        "{grade} {side} effusion{s} with blunting of the costophrenic angle{s}",
        "blunted {side} costophrenic angle{s} in keeping with {grade} effusion{s}",
    ),
    "pneumothorax": (
        "{grade} {side} pneumothorax",
        "there is {grade} {side} pneumothorax",
        "{side} pneumothorax, {grade}",
        "{grade} {side} apical pneumothorax with a visible pleural line",
    ),
    "consolidation": (
        "{grade} {side} {zone} zone consolidation",
        "{grade} consolidation in the {side} {zone} zone{s}",
        "{grade} airspace consolidation, {side} {zone} lung{s}",
        "{side} {zone} zone opacit{ies} in keeping with {grade} consolidation",
        "there is {grade} consolidation of the {side} {zone} lung{s}",
    ),
    "lung_lesion": (
        "{grade} {side} {zone} zone {node}",
        "{grade} {node} in the {side} {zone} zone",
        "{grade} {node} of about {size} mm in the {side} {zone} lung",
        "there is a {grade} {side} {zone} zone {node}, about {size} mm across",
        "{side} {zone} zone {node}, {grade}",
    ),
    "edema": (
        "{grade} pulmonary edema",
        "{grade} interstitial edema",
        "perihilar haze in keeping with {grade} pulmonary edema",
        "there is {grade} pulmonary edema",
        "{grade} edema with perihilar haze",
    ),
    "atelectasis": (
        "{grade} {side} basal atelectasis",
        "{grade} atelectasis at the {side} lung base{s}",
        "{grade} volume loss at the {side} base{s} in keeping with atelectasis",
        "{side} basal atelectasis, {grade}",
        "{grade} {side} lower lobe atelectasis",
    ),
}
UNCERTAIN = (
    "possible {phrase}",
    "probable {phrase}",
    "suspected {phrase}",
    "{phrase} is suspected",
    "questionable {phrase}",
)

ABSENT = {
    "cardiomegaly": (
        "heart size is normal",
        "the heart is not enlarged",
        "normal cardiac silhouette",
        "no cardiomegaly",
    ),
    "pleural_effusion": ("no pleural effusion", "the costophrenic angles are sharp", "no pleural fluid is seen"),
    "pneumothorax": ("no pneumothorax", "no evidence of pneumothorax", "no pneumothorax is seen"),
    "consolidation": ("no focal consolidation", "no consolidation is seen", "without airspace consolidation"),
    "lung_lesion": ("no lung nodule or mass", "no suspicious nodule", "no mass is seen"),
    "edema": ("no pulmonary edema", "no evidence of edema", "no vascular congestion or edema"),
    "atelectasis": ("no atelectasis", "no volume loss"),
}
ABSENT_PAIRS = {
    ("pleural_effusion", "pneumothorax"): ("no pleural effusion or pneumothorax", "no pneumothorax or effusion"),
    ("consolidation", "edema"): ("no consolidation or edema", "no focal consolidation or pulmonary edema"),
    ("consolidation", "pleural_effusion"): ("no consolidation or pleural effusion",),
}
PARENCHYMA = ("consolidation", "lung_lesion", "edema", "atelectasis")
CLEAR = ("the lungs are clear", "clear lungs", "both lungs are clear")
NORMAL = (
    "no acute cardiopulmonary abnormality",
    "normal chest radiograph",
    "no acute disease",
    "no active chest disease",
    "unremarkable study",
)
# Words by which the reader recognises the finding that a sentence is about.
CUES = {
    "cardiomegaly": ("cardiomegaly", "heart", "cardiac silhouette"),
    "pleural_effusion": ("effusion", "effusions", "pleural fluid", "costophrenic"),
    "pneumothorax": ("pneumothorax",),
    "consolidation": ("consolidation",),
    "lung_lesion": ("nodule", "mass"),
    "edema": ("edema",),
    "atelectasis": ("atelectasis", "volume loss"),
}
