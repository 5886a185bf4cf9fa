"""Draw ``overview.png``: the flow of training, a phantom study, and a study generated from its report.

Usage: ``python docs/assets/overview.py PHANTOM_PATIENT GENERATED_STUDY`` (two folders of one study each), after
``core.train --flow text-xray,text-ct,ct-mri`` and ``core.generate --prompt text=PHANTOM_PATIENT/report.txt``.
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw

from core.config.installation import load_catalog
from core.config.registry import load_registry
from core.generate.output.contact_sheet import Column, contact_sheet, write_sheet
from core.types import Sample

PRESET = "tiny"
SHOWN = {"text": "Report", "xray_frontal": "X-ray, frontal", "xray_lateral": "X-ray, lateral", "ct": "CT", "mri": "MRI"}
PHANTOM_FILES = {"text": "report.txt", "mri": "mri_t2.nii.gz"}
FLOW = (("text", "xray", "1"), ("text", "ct", "2"), ("ct", "mri", "3"))
BOXES = {"text": (70, 90), "xray": (20, 250), "ct": (130, 250), "mri": (130, 410)}
WIDTH, HEIGHT, BOX, INK = 230, 482, (86, 44), 40


def main(phantom: Path, generated: Path) -> None:
    """Write the picture beside this file."""
    prompt = Sample(modality="text", data="The prompt is the report above.")
    studies = [study(phantom, PHANTOM_FILES), {**study(generated, {}), "text": prompt}]
    rows = ["phantom study, computed", "generated study"]
    sheet = contact_sheet(studies, [Column(*shown) for shown in SHOWN.items()], rows)
    picture = Image.new("L", (WIDTH + sheet.width, max(HEIGHT, sheet.height)), 255)
    picture.paste(diagram(), (0, 0))
    picture.paste(sheet, (WIDTH, 0))
    write_sheet(picture, Path(__file__).with_name("overview.png"))


def study(folder: Path, files: dict[str, str]) -> dict[str, Sample]:
    """The parts of a study in canonical form; the report, where the study has one, as text."""
    modalities = load_catalog(load_registry()).modalities
    samples = {}
    for name in SHOWN:
        parts = modalities[name].parts(PRESET)
        for path in folder.glob(files.get(name, f"{name}.*[!n]")):  # not the notes in JSON
            sample = parts.reader.build().read(path)
            samples[name] = sample if isinstance(sample.data, str) else parts.preprocess.build().apply(sample)
    return samples


def diagram() -> Image.Image:
    """Boxes for modalities, and an arrow with its number for every round of the flow."""
    picture = Image.new("L", (WIDTH, HEIGHT), 255)
    draw = ImageDraw.Draw(picture)
    draw.text((20, 20), "--flow text-xray,", fill=INK, font_size=15)
    draw.text((20, 40), "text-ct,ct-mri", fill=INK, font_size=15)
    for source, target, number in FLOW:
        start = (BOXES[source][0] + BOX[0] // 2, BOXES[source][1] + BOX[1])
        end = (BOXES[target][0] + BOX[0] // 2, BOXES[target][1])
        draw.line((start, end), fill=INK, width=2)
        draw.polygon([end, (end[0] - 6, end[1] - 11), (end[0] + 6, end[1] - 11)], fill=INK)
        middle = ((start[0] + end[0]) // 2, (start[1] + end[1]) // 2)
        draw.ellipse((middle[0] - 11, middle[1] - 11, middle[0] + 11, middle[1] + 11), fill=255, outline=INK)
        draw.text(middle, number, fill=INK, font_size=14, anchor="mm")
    for name, (left, top) in BOXES.items():
        draw.rounded_rectangle((left, top, left + BOX[0], top + BOX[1]), radius=8, fill=235, outline=INK, width=2)
        draw.text((left + BOX[0] // 2, top + BOX[1] // 2), name, fill=0, font_size=16, anchor="mm")
    return picture


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
