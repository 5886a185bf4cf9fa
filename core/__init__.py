"""MedWeave: generate several medical modalities together.

Importing this package costs milliseconds: no torch, no plugin, no disk.
"""

from core._torchvision import install_cure

__version__ = "0.1.0"

install_cure()
