"""All adapters of this plugin."""

from __future__ import annotations

from plugins.collections.acdc import ACDC
from plugins.collections.brain_mri_ct import BRAIN_MRI_CT
from plugins.collections.brats import BRATS
from plugins.collections.chestxray14 import CHESTXRAY14
from plugins.collections.folder import FOLDER
from plugins.collections.gold_atlas import GOLD_ATLAS
from plugins.collections.iu_xray import IU_XRAY
from plugins.collections.ixi import IXI
from plugins.collections.medicat import MEDICAT
from plugins.collections.mimic_cxr import MIMIC_CXR, MIMIC_CXR_IMPRESSION
from plugins.collections.sliver07 import SLIVER07

ADAPTERS = (
    *(MIMIC_CXR, MIMIC_CXR_IMPRESSION, IU_XRAY, CHESTXRAY14, MEDICAT, BRAIN_MRI_CT),
    *(BRATS, IXI, GOLD_ATLAS, ACDC, SLIVER07, FOLDER),
)
