"""List the adapters of all public data sets, in the order in which they are registered."""

from __future__ import annotations

from plugins.public_datasets.acdc import ACDC
from plugins.public_datasets.brain_mri_ct import BRAIN_MRI_CT
from plugins.public_datasets.brats import BRATS
from plugins.public_datasets.chestxray14 import CHESTXRAY14
from plugins.public_datasets.folder import FOLDER
from plugins.public_datasets.gold_atlas import GOLD_ATLAS
from plugins.public_datasets.iu_xray import IU_XRAY
from plugins.public_datasets.ixi import IXI
from plugins.public_datasets.medicat import MEDICAT
from plugins.public_datasets.mimic_cxr import MIMIC_CXR, MIMIC_CXR_IMPRESSION
from plugins.public_datasets.sliver07 import SLIVER07

ADAPTERS = (
    *(MIMIC_CXR, MIMIC_CXR_IMPRESSION, IU_XRAY, CHESTXRAY14, MEDICAT, BRAIN_MRI_CT),
    *(BRATS, IXI, GOLD_ATLAS, ACDC, SLIVER07, FOLDER),
)
