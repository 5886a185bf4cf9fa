"""DICOM in and out: one file, a series, radiographs, segmentations, reports."""
