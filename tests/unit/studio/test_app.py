"""The server of the page: studies in steps, their numbers and files, and what is refused."""

import base64
import io
import json
import threading
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from starlette.testclient import TestClient

from core.studio import jobs as jobs_module
from core.studio.app import create_app
from core.studio.messages import private_folders, public

REPORT = "Large right pleural effusion. No pneumothorax. The heart is not enlarged."
QUICK = {"steps": "3"}


def test_the_page_is_served_whole_and_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert page.headers["x-content-type-options"] == "nosniff"
    for file in ("studio.css", "studio.js", "viewer.js"):
        assert client.get(f"/static/{file}").status_code == 200
        assert "//" not in page.text.replace("http-equiv", "").split("<body>")[0].replace("data:,", "")
    assert client.get("/static/../app.py").status_code == 404


def test_the_model_is_described(client, model):
    found = client.get("/api/model").json()
    assert [output["name"] for output in found["outputs"]] == list(model.outputs)
    by_name = {file["name"]: file for file in found["files"]}
    assert by_name["ct"] == {"name": "ct", "title": by_name["ct"]["title"], "prompt": True, "condition": True}
    assert found["texts"] == [{"name": "text", "title": found["texts"][0]["title"], "prompt": True, "condition": True}]


def test_a_study_appears_step_by_step_and_equals_that_of_python(make, client, model):
    name, events = make(**{"written.text": REPORT, "outputs": "xray_frontal,ct", "seed": "4"}, **QUICK)
    steps = [event for event in events if event["kind"] == "step"]
    assert [(event["step"], event["steps"]) for event in steps] == [(1, 3), (2, 3), (3, 3)]
    last = steps[-1]["pictures"]["ct"]
    numbers = last["low"] + last["step"] * np.frombuffer(base64.b64decode(last["bytes"]), np.uint8)
    assert events[-1]["kind"] == "done"
    assert "dicom" in events[-1]["formats"]
    (study,) = model.generate(prompts={"text": REPORT}, outputs=["xray_frontal", "ct"], seed=4, steps=3)
    described = {output["modality"]: output["picture"] for output in events[-1]["outputs"]}
    for modality, picture in described.items():
        content = client.get(f"/api/studies/{name}/data/{modality}").content
        whole = np.frombuffer(content, "<f4").reshape(picture["shape"])[0]
        assert np.allclose(whole, study[modality][0], atol=1e-3 * np.ptp(whole))
        if modality == "ct":
            assert np.abs(numbers.reshape(64, 64) - whole).max() <= last["step"], "the last step is the study"
    assert list(described["ct"]["windows"])[:2] == ["soft tissue", "lung"]
    assert described["ct"]["edges"] == {"top": "A", "bottom": "P", "left": "R", "right": "L"}
    assert described["xray_frontal"]["edges"] == {"top": "S", "bottom": "I", "left": "R", "right": "L"}


def test_a_report_is_shown_as_soon_as_it_is_finished(make):
    _, events = make(outputs="text,ct", **QUICK)
    texts = [event["texts"]["text"] for event in events if event.get("texts")]
    final = next(output["written"] for output in events[-1]["outputs"] if output["modality"] == "text")
    assert texts == [final]
    first = next(number for number, event in enumerate(events) if event.get("texts"))
    assert any("ct" in event.get("pictures", {}) for event in events[first + 1 :])


def test_files_are_those_of_the_command_and_say_that_they_are_synthetic(make, client):
    name, _ = make(**{"written.text": REPORT, "outputs": "text,ct,mri", "seed": "2"}, **QUICK)
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/api/studies/{name}/download").content))
    files = {path.split("/")[1]: archive.read(path) for path in archive.namelist()}
    assert {"ct.nii.gz", "mri.nii.gz", "text.txt", "study.json"} <= set(files)
    assert b"SYNTHETIC" in files["text.txt"]
    assert json.loads(files["study.json"])["seed"] == 2
    dicom = zipfile.ZipFile(io.BytesIO(client.get(f"/api/studies/{name}/download?format=dicom").content))
    series = [pydicom.dcmread(io.BytesIO(dicom.read(path))) for path in dicom.namelist() if path.endswith(".dcm")]
    assert {each.Modality for each in series} == {"CT", "MR", "SR"}
    assert len({each.StudyInstanceUID for each in series}) == 1
    assert (
        client.get(f"/api/studies/{name}/download?format=jpeg").json()["error"].startswith("--format jpeg: no output")
    )


def test_a_given_file_is_kept_and_removed_from_the_server(make, model, tmp_path, uploads):
    (first,) = model.generate(prompts={"text": REPORT}, outputs=["ct"], seed=1, steps=3)
    first.save(tmp_path / "given")
    upload = {"file.ct": ("scan one.nii.gz", (tmp_path / "given/ct.nii.gz").read_bytes())}
    _, events = make(upload, **{"role.ct": "condition", "outputs": "mri"}, **QUICK)
    assert events[-1]["kind"] == "done"
    assert not uploads()
    _, prompted = make(upload, **{"role.ct": "prompt", "outputs": "mri"}, **QUICK)
    assert prompted[-1]["kind"] == "done"


def test_a_series_of_several_files_is_one_condition(make, model, tmp_path):
    (study,) = model.generate(outputs=["ct"], seed=1, steps=3)
    study.save(tmp_path / "given", "dicom")
    file = next((tmp_path / "given").rglob("*.dcm"))
    other = pydicom.dcmread(file)
    other.SOPInstanceUID += ".1"
    other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
    other.ImagePositionPatient = [*other.ImagePositionPatient[:2], other.ImagePositionPatient[2] + 5]
    other.save_as(tmp_path / "other.dcm")
    both = [("file.ct", ("a.dcm", path.read_bytes())) for path in (file, tmp_path / "other.dcm")]
    _, events = make(both, **{"role.ct": "condition", "choice.ct": "slice=0", "outputs": "mri"}, **QUICK)
    assert events[-1]["kind"] == "done", events[-1]


@pytest.mark.parametrize(
    ("fields", "upload", "expected"),
    [
        ({"outputs": "mri"}, ("notes.nii.gz", b"no image"), "notes.nii.gz"),
        ({"outputs": "mri"}, ("holiday.jpg", None), "holiday.jpg"),
        ({"outputs": "mri"}, ("../../etc/passwd", b"root"), "passwd"),
        ({"outputs": "mri", "choice.ct": "slice=900"}, ("scan.nii.gz", b"x"), "scan.nii.gz"),
        ({"outputs": "hair"}, None, "hair"),
        ({"outputs": "ct", "scale": "1000000000"}, None, "scale"),
    ],
)
def test_what_cannot_be_made_is_one_line_without_a_path(make, tmp_path, uploads, fields, upload, expected):
    files = None
    if upload is not None:
        name, content = upload
        if content is None:
            picture = io.BytesIO()
            Image.new("RGB", (8, 8)).save(picture, "JPEG")
            content = picture.getvalue()
        files = {"file.ct": (name, content)}
    _, events = make(files, **fields, **QUICK)
    assert events[-1]["kind"] == "failed"
    message = events[-1]["error"]
    assert expected in message
    assert "\n" not in message
    assert str(tmp_path) not in message
    assert "/tmp" not in message
    assert not uploads()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "no output is chosen"),
        ({"outputs": "ct", "steps": "many"}, "steps 'many': give a whole number"),
        ({"outputs": "ct", "steps": "5000"}, "5000 steps: at most 1000"),
        ({"outputs": "ct", "seed": "1.5"}, "seed '1.5': give a whole number"),
        ({"outputs": "ct", "seed": "-1"}, "seed -1: give a whole number from 0"),
        ({"outputs": "ct", "seed": "9" * 300}, "give a whole number from 0"),
        ({"outputs": "ct", "role.text": "king", "written.text": "No effusion."}, "text: is a prompt or a condition"),
        ({"outputs": "ct", "written.text": "word " * 5000}, "has 24999 letters; at most 20000"),
    ],
)
def test_a_wrong_form_is_refused_at_once(client, fields, expected):
    answer = client.post("/api/studies", data=fields)
    assert answer.status_code == 400
    assert expected in answer.json()["error"]


def test_a_prompt_of_a_megabyte_and_large_files_are_refused(client, uploads):
    answer = client.post("/api/studies", data={"outputs": "ct", "written.text": "a" * 900_000})
    assert answer.status_code == 400
    large = client.post("/api/studies", data={"outputs": "mri"}, files={"file.ct": ("a.nii.gz", bytes(1_100_000))})
    assert large.status_code == 413
    assert "larger than 1 MB together" in large.json()["error"]

    def endless():
        yield from (b"x" * 100_000 for _ in range(30))

    headers = {"content-type": "multipart/form-data; boundary=b"}
    unstated = client.post("/api/studies", content=endless(), headers=headers)
    assert unstated.status_code == 413
    assert not uploads()


def test_other_sites_are_refused(client):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    answer = client.post("/api/studies", data={"outputs": "ct"}, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403
    same = client.post("/api/studies", data={"outputs": ""}, headers={"origin": "http://testserver"})
    assert same.status_code == 400, "the form is read"


def test_a_study_can_be_stopped_and_others_wait_their_turn(model, tmp_path, uploads, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    begun, go_on = threading.Event(), threading.Event()
    show = jobs_module.show_step

    def slow(job, step):
        begun.set()
        go_on.wait(30)
        show(job, step)

    monkeypatch.setattr(jobs_module, "show_step", slow)
    with TestClient(create_app(model, upload_bytes=10**6, hosts=("testserver",))) as client:
        names = [client.post("/api/studies", data={"outputs": "ct", **QUICK}).json()["study"] for _ in range(8)]
        upload = {"file.ct": ("scan.nii.gz", b"of a patient")}
        refused = client.post("/api/studies", data={"outputs": "mri", **QUICK}, files=upload)
        assert not uploads()
        assert (refused.status_code, refused.json()["error"][:21]) == (400, "8 studies are waiting")
        assert begun.wait(30)
        assert client.get(f"/api/studies/{names[0]}/download").status_code == 400
        for name in names[:7]:
            client.delete(f"/api/studies/{name}")
        waiting = client.get(f"/api/studies/{names[3]}/events").text
        assert '"before": 3' in waiting, "and it has ended, although the first one still runs"
        go_on.set()
        texts = [client.get(f"/api/studies/{name}/events").text.split("data: ")[-1] for name in names]
    assert [json.loads(text)["kind"] for text in texts] == ["cancelled"] * 7 + ["done"]


def test_unknown_studies_and_images_are_one_line(client, make):
    assert "no such study" in client.get("/api/studies/none/events").json()["error"]
    name, _ = make(outputs="text", **QUICK)
    assert client.get(f"/api/studies/{name}/data/text").json()["error"] == "'text' is no image of this study"
    assert client.get("/nothing").status_code == 404


def test_a_typed_path_and_a_mask_on_the_server_are_not_opened(make, client, tmp_path, uploads):
    """What lies on the server is not for those who reach the page."""
    (tmp_path / "server/secret.txt").write_text("Secret report of a patient.")
    name, events = make(**{"written.text": "secret.txt", "outputs": "ct"}, **QUICK)
    assert events[-1]["kind"] == "done"
    assert prompts_of(client, name) == {"text": "secret.txt"}
    upload = {"file.ct": ("scan.nii.gz", b"x")}
    for choice in (f"seg={tmp_path}/server/secret.txt", "seg=../../x.nii.gz", "slice=1/../x", "middle"):
        refused = client.post("/api/studies", data={"outputs": "mri", "choice.ct": choice}, files=upload)
        assert refused.status_code == 400
        assert "write slice=40" in refused.json()["error"]
    assert not uploads()


def prompts_of(client, name):
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/api/studies/{name}/download").content))
    return json.loads(archive.read(next(path for path in archive.namelist() if path.endswith("study.json"))))["prompts"]


def test_line_ends_of_browsers_make_no_other_study(make, client):
    texts = ("Edema.\r\nNo effusion.", "Edema.\nNo effusion.")
    prompts = [prompts_of(client, make(**{"written.text": text, "outputs": "ct"}, **QUICK)[0]) for text in texts]
    assert prompts[0] == prompts[1]


def test_a_page_that_connects_again_gets_what_it_missed(make, client):
    name, events = make(outputs="ct", **QUICK)
    again = client.get(f"/api/studies/{name}/events", headers={"last-event-id": str(len(events) - 2)})
    assert [json.loads(part.split("\n")[0]) for part in again.text.split("data: ")[1:]] == events[-1:]


def test_a_study_that_no_page_follows_is_stopped(client, monkeypatch):
    monkeypatch.setattr(jobs_module, "_UNHEARD_S", -1)
    job = client.app.state.jobs.submit(jobs_module.Order(outputs=["ct"], sampler={"steps": 3}))
    for _ in range(600):
        if job.ended:
            break
        time.sleep(0.05)
    assert job.state == "cancelled"


def test_of_past_steps_no_picture_stays_in_memory(client, make):
    name, _ = make(outputs="ct,mri", steps="6")
    events = client.app.state.jobs.find(name).events
    assert [bool(event["pictures"]) for event in events if event["kind"] == "step"] == [False] * 5 + [True]


def test_an_unforeseen_error_is_one_line_here_and_a_traceback_on_the_console(make, monkeypatch, capsys):
    monkeypatch.setattr("core.model.model.generate_batches", lambda *_: 1 / 0)
    _, events = make(outputs="ct", **QUICK)
    assert events[-1]["error"].startswith("the study could not be made (ZeroDivisionError)")
    assert "Traceback" in capsys.readouterr().err


def test_a_warning_reaches_the_page_every_time(make):
    for _ in range(2):
        _, events = make(**{"written.text": "No pneumothorax. " * 200, "outputs": "ct"}, **QUICK)
        (told,) = [event["message"] for event in events if event["kind"] == "warning"]
        assert "tokens are read" in told


def test_a_closed_page_leaves_warnings_and_folders_as_they_were(model, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shown = warnings.showwarning
    with TestClient(create_app(model, upload_bytes=10**6, hosts=("testserver",))):
        assert warnings.showwarning is not shown
    assert warnings.showwarning is shown
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("/home/u/runs/x/weights.safetensors: is not the file", "weights.safetensors: is not the file"),
        ("read '/data/a b.nii' (in /opt/py/lib/x.py:12)", "read 'a b.nii' (in x.py:12)"),
        (r"C:\Users\me\scan.dcm: no", "scan.dcm: no"),
        ("give 1/2 or http://127.0.0.1:7860/x and slice=40", "give 1/2 or http://127.0.0.1:7860/x and slice=40"),
        ("~/runs/a/b: none", "b: none"),
        ("read:/etc/foo/bar; 3.5 mg/dL on 1/2/2020, and/or", "read:bar; 3.5 mg/dL on 1/2/2020, and/or"),
        ("/data/secret study/jones/scan.nii: 3.5 mm", "scan.nii: 3.5 mm"),
    ],
)
def test_messages_have_no_paths(message, expected):
    assert public(message, private_folders(Path("/data"), Path("/"), Path("."))) == expected
