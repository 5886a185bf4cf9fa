"""DICOM files written tag by tag, so that tests know what is in them without the readers."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT, MR, CR, ENHANCED_CT = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "4", "1", "2.1"))
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def save(dataset, path, syntax=ExplicitVRLittleEndian, implicit=False, little=True):
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CT)
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.preamble = bytes(128)
    dataset.save_as(path, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    return path


def put(dataset, **tags):
    """The data set with these elements; None takes one out."""
    for keyword, value in tags.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)
    return dataset


def image(stored, **tags):
    """A grey image of stored numbers; int16 is signed, uint16 and uint8 are not."""
    stored = np.asarray(stored)
    frames = stored.shape[0] if stored.ndim == 3 else None
    bits = 8 * stored.dtype.itemsize
    dataset = put(
        Dataset(),
        PatientName="Doe^Jane",
        PatientID="SECRET-17",
        PatientBirthDate="19700101",
        StudyInstanceUID="1.2.3.4",
        InstitutionName="Hospital of SECRET",
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=stored.shape[-2],
        Columns=stored.shape[-1],
        BitsAllocated=bits,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=int(stored.dtype.kind == "i"),
        NumberOfFrames=frames,
    )
    dataset.PixelData = stored.tobytes() + bytes(stored.nbytes % 2)
    dataset["PixelData"].VR = "OW" if bits == 16 else "OB"
    return put(dataset, **tags)


def ct_slice(stored, position=(0.0, 0.0, 0.0), cosines=AXIAL, spacing=(1.0, 1.0), **tags):
    given = {
        "SOPClassUID": CT,
        "SOPInstanceUID": generate_uid(),
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SeriesInstanceUID": "1.2.3.5",
        "FrameOfReferenceUID": "1.2.3.6",
        "ImagePositionPatient": list(position),
        "ImageOrientationPatient": list(cosines),
        "PixelSpacing": list(spacing),
        "SliceThickness": 2.0,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
    }
    return image(stored, **{**given, **tags})


def ct_series(folder, volume, origin, step, cosines=AXIAL, spacing=(1.0, 1.0), order=None, **tags):
    """A file per slice; names and instance numbers are shuffled, so that only positions tell the order."""
    names = np.random.default_rng(5).permutation(len(volume)) if order is None else order
    for k, (stored, name) in enumerate(zip(volume, names, strict=True)):
        position = np.asarray(origin) + k * np.asarray(step)
        dataset = ct_slice(stored, position, cosines, spacing, InstanceNumber=int(name), **tags)
        save(dataset, folder / f"{name:03d}.dcm")
    return folder


def cr(stored, **tags):
    given = {
        "SOPClassUID": CR,
        "SOPInstanceUID": "1.2.3.7",
        "SeriesInstanceUID": "1.2.3.8",
        "Modality": "CR",
        "ViewPosition": "PA",
        "ImagerPixelSpacing": [0.2, 0.3],
    }
    return image(stored, **{**given, **tags})


def enhanced(volume, positions, cosines=AXIAL, spacing=(1.0, 1.0), slopes=None, **tags):
    """An enhanced CT: shared orientation and spacing, positions and rescale of each frame."""
    shared, each = Dataset(), []
    shared.PlaneOrientationSequence = Sequence([put(Dataset(), ImageOrientationPatient=list(cosines))])
    shared.PixelMeasuresSequence = Sequence([put(Dataset(), PixelSpacing=list(spacing), SliceThickness=2.0)])
    for k, position in enumerate(positions):
        item = Dataset()
        item.PlanePositionSequence = Sequence([put(Dataset(), ImagePositionPatient=list(position))])
        slope = 1 if slopes is None else slopes[k]
        rescale = put(Dataset(), RescaleSlope=slope, RescaleIntercept=-1024, RescaleType="HU")
        item.PixelValueTransformationSequence = Sequence([rescale])
        each.append(item)
    dataset = ct_slice(volume, SOPClassUID=ENHANCED_CT, NumberOfFrames=len(volume))
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        del dataset[keyword]
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(each)
    return put(dataset, **tags)
