"""IXI: healthy brains in T1, T2 and proton density (MedM2G 4, Table 2).

Layout, https://brain-development.org/ixi-dataset/ and
https://aramislab.paris.inria.fr/clinica/docs/public/latest/Converters/IXI2BIDS/ ::

    IXI-T1/IXI002-Guys-0828-T1.nii.gz    IXI-T2/...-T2.nii.gz    IXI-PD/...-PD.nii.gz      or all in one folder
    IXI.xls                              IXI_ID, "SEX_ID (1=m, 2=f)", ...                  read as IXI.csv
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from core.api import DatasetAdapter, MedWeaveWarning, Record, UserError
from plugins.public_datasets.csv_tables import read_rows, row_error
from plugins.public_datasets.file_listing import walk_folders
from plugins.public_datasets.skipped_files import SkippedFiles

CONTRASTS = {"T1": "mri_t1", "T2": "mri_t2", "PD": "mri_pd"}
_FILE = re.compile(r"(?P<study>(?P<patient>IXI\d+)-(?P<site>[A-Za-z]+)-\d+)-(?P<what>T1|T2|PD)\.nii(\.gz)?")
_SEX = {"1": "male", "2": "female"}


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per visit, by name; all of them training, for there is no official split.

    The strata are sex and site, for each site has another scanner (Guys and IOP 1.5 T, HH 3 T).
    """
    root, skipped = Path(root), SkippedFiles()
    visits: dict[str, dict[str, tuple[Path, ...]]] = {}
    for folder, names in walk_folders(root):
        for name in names:
            match = _FILE.fullmatch(name)
            if match:
                visits.setdefault(match["study"], {})[CONTRASTS[match["what"]]] = (folder / name,)
    if not visits:
        raise UserError(f"{root}: holds no file like IXI002-Guys-0828-T1.nii.gz; point root at the folder above IXI-T1")
    sexes = _sexes(root)
    for study, files in sorted(visits.items()):
        patient, site, _ = study.split("-")
        if len(files) < len(CONTRASTS):
            skipped.add("visits with fewer than three contrasts", study)
        sex = sexes.get(int(patient.removeprefix("IXI")))
        yield Record(patient=patient, study=study, files=files, strata={"site": site} | ({"sex": sex} if sex else {}))
    skipped.warn(root)


def _sexes(root: Path) -> dict[int, str]:
    table = root / "IXI.csv"
    if not table.is_file():
        if (root / "IXI.xls").is_file():
            message = "is not read, so sexes are unknown; save it as IXI.csv in the same folder, with all columns"
            warnings.warn(MedWeaveWarning(f"{root / 'IXI.xls'}: {message}"), stacklevel=2)
        return {}
    sexes: dict[int, str] = {}
    for line, row in read_rows(table, ("IXI_ID", "SEX_ID (1=m, 2=f)")):
        number, sex = (row[name].removesuffix(".0") for name in ("IXI_ID", "SEX_ID (1=m, 2=f)"))
        if not number.isdecimal() or sex not in (*_SEX, ""):
            raise row_error(table, line, "IXI_ID is no number, or the sex none of 1 and 2", "save the table again")
        if sex:
            sexes[int(number)] = _SEX[sex]
    return sexes


IXI = DatasetAdapter(
    name="ixi",
    title="IXI, healthy brains",
    modalities=("mri_t1", "mri_t2", "mri_pd"),
    licence="CC BY-SA 3.0",
    weights_may_be_shared=True,
    citation="IXI dataset, EPSRC GR/S21533/02; https://brain-development.org/ixi-dataset/",
    scan=scan,
)
