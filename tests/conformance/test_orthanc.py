"""A study goes to a PACS and comes back: DCMTK sends, Orthanc stores and hands out."""

import io
import json
import socket
import subprocess
import time
import urllib.request
from urllib.error import URLError

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset

START_S = 30


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Orthanc:
    """A server of our own: two free ports of this machine, an empty storage."""

    def __init__(self, program, folder):
        self.http, self.dicom = free_port(), free_port()
        settings = {
            "Name": "conformance",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomCheckCalledAet": False,
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.log = (folder / "log.txt").open("w")
        self.process = subprocess.Popen(
            [program, str(folder / "orthanc.json")], stdout=self.log, stderr=subprocess.STDOUT, cwd=folder
        )

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=10) as answer:
            return answer.read()

    def wait(self):
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                return self.get("/system")
            except (URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError(f"Orthanc did not start; see {self.log.name}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


@pytest.fixture(scope="module")
def pacs(program, tmp_path_factory):
    server = Orthanc(program("Orthanc"), tmp_path_factory.mktemp("orthanc"))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def stored(pacs, program, study, tmp_path_factory):
    """Every instance of the study by its UID: as it was written, and as the server hands it out."""
    command = [
        program("storescu"),
        "--required",
        "--scan-directories",
        "--recurse",
        "--scan-pattern",
        "*.dcm",
        "-aec",
        "ORTHANC",
    ]
    result = subprocess.run(
        [*command, "127.0.0.1", str(pacs.dicom), str(study)], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "E:" not in result.stderr + result.stdout, result.stderr
    written = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, sorted(study.rglob("*.dcm")))}
    found = [
        pydicom.dcmread(io.BytesIO(pacs.get(f"/instances/{key}/file"))) for key in json.loads(pacs.get("/instances"))
    ]
    return written, {one.SOPInstanceUID: one for one in found}


def elements(dataset: FileDataset):
    return {element.tag: element.value for element in dataset if element.tag.element != 0}


def test_every_instance_arrives_as_it_was_sent(stored):
    written, found = stored
    assert set(found) == set(written)
    assert len(written) == len({one.SOPInstanceUID for one in written.values()})
    for uid, one in written.items():
        assert elements(found[uid]) == elements(one), uid
        if "PixelData" in one:
            assert np.array_equal(found[uid].pixel_array, one.pixel_array)


def test_the_server_sees_one_synthetic_patient_and_study(stored, pacs, study):
    (patient,) = json.loads(pacs.get("/patients"))
    about = json.loads(pacs.get(f"/patients/{patient}"))
    assert about["MainDicomTags"]["PatientName"] == "SYNTHETIC^MEDWEAVE"
    assert len(about["Studies"]) == 1
    series = [json.loads(pacs.get(f"/series/{one}")) for one in json.loads(pacs.get("/series"))]
    kinds = sorted(one["MainDicomTags"]["Modality"] for one in series)
    assert kinds == ["CT", "CT", "DX", "DX", "MR", "MR", "SEG", "SEG", "SR"]
    (ct,) = [one for one in series if len(one["Instances"]) == len(list((study / "volume/ct").iterdir()))][:1]
    assert len(ct["Instances"]) > 1


def test_the_server_can_draw_every_image(stored, pacs):
    """A preview needs pixels, window and photometric interpretation that fit each other."""
    for key in json.loads(pacs.get("/instances")):
        tags = json.loads(pacs.get(f"/instances/{key}/simplified-tags"))
        if tags["Modality"] in ("CT", "MR", "DX"):
            assert pacs.get(f"/instances/{key}/preview").startswith(b"\x89PNG")
