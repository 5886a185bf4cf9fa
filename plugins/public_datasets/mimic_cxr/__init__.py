"""MIMIC-CXR: reports with the views of a study."""
