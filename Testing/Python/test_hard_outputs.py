"""What is the user's stays the user's, and one bad input ends no batch."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from dicom_cases import SERIES, Series, write_series
from hard_inputs import make_hard_inputs
from phantom_cases import write_patients
from phantom_series import write_phantom_series
from remembered import remembered

import forked
from dinsegment.errors import InputError, OutputError, printable
from dinsegment.files import atomic_path, check_name
from dinsegment.images import read_volume, write_volume
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.writing import write_segmentation
from dinsegment.inference.devices import choose_device
from dinsegment.inference.model import Model, load_model
from dinsegment.manifest import MANIFEST, Manifest, staged, written
from dinsegment.models.entries import find_entry
from dinsegment.phantom.heart import cine_phantom, heart_phantom
from dinsegment.studies.index import INDEX
from dinsegment.studies.ledger import Ledger
from dinsegment.studies.many import segment_studies
from dinsegment.studies.results import write_results
from dinsegment.studies.study import ERRORS, Study, StudyResult, segment_study, write_study
from dinsegment.studies.table import TABLE
from dinsegment.tasks import HEART
from dinsegment.training.metrics import dice
from dinsegment.training.recipe import list_recipes, load_recipe

CASES = (
    "base-heart.nii.gz", "own-file-in-phase-folder", "images-in-phase-folders", "input-named-enhanced",
    "corrected-segmentation", "cine-then-volume", "volume-then-cine", "name-with-non-utf8-byte",
    "name-of-255-characters",
)  # fmt: skip
GRID = {"slices": 2, "size": (64, 80), "spacing": (16.0, 2.8, 2.5)}
FILES = ["enhanced.nrrd", "measurements.json", "overview.png", "segmentation.seg.nrrd"]
NOT_UTF8 = os.fsdecode(b"caf\xe9")
posix_names = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode here")


def hashes(*folders: Path) -> dict[str, str]:
    """SHA-256 of all files, at any depth."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def beside_warnings(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if not line.startswith("Warning: ")]


def one_error(errors: str, *words: object) -> None:
    lines = beside_warnings(errors)
    assert len(lines) == 1 and lines[0].startswith("Error: ") and lines[0].endswith("."), errors
    for word in words:
        assert printable(word) in lines[0]


# --- the hard inputs -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hard(data_folder, tmp_path_factory) -> Path:
    """The hard inputs, made from the reference images."""
    folder = tmp_path_factory.mktemp("hard")
    make_hard_inputs(data_folder, folder, *CASES)
    return folder


@pytest.fixture(scope="module")
def shipped():
    """The heart's model, loaded once; what it has said of slices it knows, since most cases have the same."""
    return remembered(load_model(None, HEART))


def of(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the commands of the program a model that is loaded already."""
    for name in ("cli_segment", "cli_correct", "cli_training"):
        monkeypatch.setattr(f"dinsegment.{name}.load", lambda *_: model)


@pytest.fixture
def case(hard, run, monkeypatch, shipped):
    """Runs the commands of a hard input; gives the exit code and the errors of each, after looking at what is kept."""
    monkeypatch.chdir(hard)
    of(shipped, monkeypatch)

    def case(name: str) -> list[tuple[int, str]]:
        if name not in (cases := json.loads((hard / "cases.json").read_text(encoding="utf-8"))):
            pytest.skip(f"This file system does not take the names of '{name}'.")
        before = hashes(hard / name) if (hard / name).is_dir() else {}
        outcomes = []
        for command in cases[name]["commands"]:
            kept = {path: digest for path, digest in hashes(Path()).items() if is_kept(path, cases[name])}
            program, *arguments = shlex.split(command)
            if program == "dinsegment":
                arguments = [str(path) for word in arguments for path in expanded(word)]
                code, _, errors = run(*arguments, "--device", "cpu")
                outcomes.append((code, errors))
            else:
                subprocess.run([sys.executable, *arguments], check=True)
                kept = {}
            assert kept.items() <= hashes(Path()).items()
        assert before.items() <= hashes(hard / name).items()
        return outcomes

    return case


def is_kept(path: str, case: dict) -> bool:
    return any(Path(path).match(pattern) for pattern in case["must_not_change"])


def expanded(word: str) -> list[Path | str]:
    return sorted(Path().glob(word)) if "*" in word else [word]


@pytest.fixture(scope="module")
def base(hard, shipped) -> np.ndarray:
    """Labels of base-heart."""
    segment_study(hard / "base-heart.nii.gz", hard / "results" / "base-heart", "heart", shipped, "cpu")
    return read_volume(hard / "results" / "base-heart" / "segmentation.seg.nrrd").array


def is_base(base: np.ndarray, path: Path) -> bool:
    labels = read_volume(path).array
    return np.mean([dice(labels, base, s.label) for s in HEART.segments]) >= 0.995


@pytest.mark.parametrize("name", ["own-file-in-phase-folder", "images-in-phase-folders", "input-named-enhanced"])
def test_hard_what_is_in_the_way_is_refused_before_anything_is_computed(case, hard, name):
    files = names(hard / name)
    ((code, errors),) = case(name)
    assert code == 2
    one_error(errors, f"{name}/")
    assert names(hard / name) == files


def test_hard_a_corrected_segmentation_is_kept(case, hard):
    first, again = case("corrected-segmentation")
    assert (first[0], again[0]) == (0, 0)
    rows = table(hard / "results" / "corrected-segmentation")
    assert [row["Status"] for row in rows] == ["skipped", "skipped"]
    assert "segmentation.seg.nrrd' was changed" in rows[0]["Message"] and rows[0]["Left ventricle (ml)"] == ""
    assert float(rows[1]["Left ventricle (ml)"]) > 100


def test_hard_a_volume_takes_the_place_of_a_cine(case, hard, base):
    assert [code for code, _ in case("cine-then-volume")] == [0, 0]
    folder = hard / "results" / "cine-then-volume"
    assert names(folder) == [MANIFEST, *FILES] and not (folder / "phase01").exists()
    assert is_base(base, folder / "segmentation.seg.nrrd")


def test_hard_a_cine_takes_the_place_of_a_volume(case, hard, base):
    assert [code for code, _ in case("volume-then-cine")] == [0, 0]
    folder = hard / "results" / "volume-then-cine"
    phases = [f"phase{n:02d}/{file}" for n in (1, 2, 3) for file in FILES]
    assert names(folder) == [MANIFEST, "measurements.json", *phases]
    assert is_base(base, folder / "phase01" / "segmentation.seg.nrrd")


def test_hard_a_name_that_is_not_utf8_stops_no_other(case, hard, base):
    ((code, errors),) = case("name-with-non-utf8-byte")
    assert code == 2
    one_error(errors, "caf\\xe9.nii.gz", "UTF-8")
    folder = hard / "results" / "name-with-non-utf8-byte"
    rows = table(folder)
    assert {row["Status"] for row in rows} == {"done", "failed"}
    assert [row["Input"] for row in rows if "caf\\xe9" in row["Message"]] == ["name-with-non-utf8-byte/caf\\xe9.nii.gz"]
    assert is_base(base, folder / "other" / "segmentation.seg.nrrd")
    assert not list(folder.rglob(".*"))


def test_hard_a_name_of_255_characters(case, hard, base):
    ((code, errors),) = case("name-of-255-characters")
    assert (code, beside_warnings(errors)) == (0, [])
    folder = hard / "results" / "name-of-255-characters"
    assert [row["Status"] for row in table(folder)] == ["done", "done"]
    results = list(folder.glob("*/segmentation.seg.nrrd"))
    assert len(results) == 2 and all(is_base(base, path) for path in results)


# --- phantoms, for what takes many runs -------------------------------------------------------------


@pytest.fixture(scope="module")
def model(one_thread, tiny_model):
    return remembered(tiny_model)


@pytest.fixture
def program(run, model, monkeypatch):
    """The command line with a model that is loaded already."""
    of(model, monkeypatch)
    return lambda *arguments: run(*arguments, "--task", "heart", "--device", "cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("input")
    paths = [folder / f"p{seed}.nii.gz" for seed in range(2)]
    for seed, path in enumerate(paths):
        write_volume(heart_phantom(seed=seed, **GRID).volume, path)
    return paths


@pytest.fixture(scope="module")
def made(images, model, tmp_path_factory) -> Path:
    """Results of the first image, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "OUT"
    segment_study(images[0], folder, "heart", model, "cpu")
    return folder


@pytest.fixture
def results(made, tmp_path) -> Path:
    folder = tmp_path / "OUT"
    folder.mkdir()
    for file in made.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def correct(path: Path) -> None:
    """Changes one byte of a file, and neither its size nor its time."""
    content, before = bytearray(path.read_bytes()), path.stat()
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def unfound(*_: object) -> None:
    raise AssertionError("Something is computed.")


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_file_of_the_users_is_refused_whatever_is_asked_for(program, images, tmp_path, name, monkeypatch):
    monkeypatch.setattr("dinsegment.studies.study.compute_study", unfound)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    for option in ([], ["--overwrite"]):
        before = hashes(tmp_path)
        code, _, errors = program("segment", images[0], "-o", tmp_path / "mine", *option)
        assert code == 2 and hashes(tmp_path) == before
        one_error(errors, tmp_path / "mine" / name, "not made by DINSegment")


@pytest.mark.parametrize("name", FILES)
def test_what_was_changed_is_replaced_only_when_that_is_asked_for(program, images, results, name):
    (results / "notes.txt").write_text("mine")
    correct(results / name)
    before = hashes(results)
    code, _, errors = program("segment", images[0], "-o", results)
    assert code == 2 and hashes(results) == before
    one_error(errors, results / name, "changed", "--overwrite")
    code, _, errors = program("segment", images[1], "-o", results, "--overwrite")
    assert code == 0 and f"Warning: Overwritten, although changed since: {results / name}." in errors.splitlines()
    after = hashes(results)
    assert after.pop(str(results / "notes.txt")) == before[str(results / "notes.txt")]
    assert all(digest != before[path] for path, digest in after.items())


def test_what_is_changed_while_its_successor_is_computed_is_kept(images, results, model):
    segmentation = results / "segmentation.seg.nrrd"
    kept: list[dict[str, str]] = []

    def progress(_fraction: float, _text: str) -> None:
        if not kept:
            correct(segmentation)
            kept.append(hashes(results))

    with pytest.raises(OutputError, match="was changed"):
        segment_study(images[1], results, "heart", model, "cpu", progress)
    assert kept == [hashes(results)]


def test_a_link_and_a_folder_in_the_place_of_a_result_are_the_users(images, results, model, tmp_path):
    elsewhere = tmp_path / "elsewhere.nrrd"
    (results / "enhanced.nrrd").rename(elsewhere)
    (results / "enhanced.nrrd").symlink_to(elsewhere)
    with pytest.raises(OutputError, match="changed"):
        segment_study(images[1], results, "heart", model, "cpu")
    (results / "enhanced.nrrd").unlink()
    (results / "enhanced.nrrd").mkdir()
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="enhanced"):
            segment_study(images[1], results, "heart", model, "cpu", overwrite=overwrite)
    assert elsewhere.exists()


def test_a_result_that_is_the_input_is_not_replaced(results, model):
    before = hashes(results)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is the input"):
            segment_study(results / "enhanced.nrrd", results, "heart", model, "cpu", overwrite=overwrite)
    assert hashes(results) == before


def made_up(seed: int, count: int = 1) -> list[Segmentation]:
    """Phases with their truth, which takes no network."""
    phantoms = cine_phantom(count, seed=seed, **GRID)
    return [Segmentation(p.volume, p.labels, HEART, "m", p.volume, "cpu", 1.0) for p in phantoms]


def test_of_the_phases_before_only_what_the_user_has_put_there_stays(tmp_path):
    write_results(made_up(0, 4), tmp_path)
    (tmp_path / "phase03" / "notes.txt").write_text("mine")
    write_results(made_up(1, 2), tmp_path)
    there = sorted(p.name for p in tmp_path.iterdir())
    assert there == [MANIFEST, "measurements.json", "phase01", "phase02", "phase03"]
    assert names(tmp_path / "phase03") == ["notes.txt"]
    write_results(made_up(2), tmp_path)
    assert names(tmp_path) == [MANIFEST, *FILES[:3], "phase03/notes.txt", FILES[3]]
    with pytest.raises(OutputError, match=r"phase03.notes\.txt"):
        write_results(made_up(3, 3), tmp_path)


CRASHES = """
import os, sys
from pathlib import Path
import dinsegment.manifest, dinsegment.studies.results
from dinsegment.images.segmentation import Segmentation
from dinsegment.phantom.heart import cine_phantom
from dinsegment.studies.results import write_results
from dinsegment.tasks import HEART
moved, before, steps = Path.replace, dinsegment.manifest._replace, 0
def replace(self, target):
    global steps
    if steps == 0:
        os._exit(9)
    steps -= 1
    return moved(self, target)
def exchange(*arguments):
    Path.replace = replace
    before(*arguments)
dinsegment.manifest._replace = exchange
phantoms = cine_phantom(2, slices=2, size=(64, 80), spacing=(16.0, 2.8, 2.5))
phases = [Segmentation(p.volume, p.labels, HEART, "m", p.volume, "cpu", 1.0) for p in phantoms]
write_overview, pictures = dinsegment.studies.results.write_overview, {}
def drawn_once(phase, path):  # Else each copy would load what draws, and draw.
    if id(phase) not in pictures:
        write_overview(phase, path)
        pictures[id(phase)] = path.read_bytes()
    path.write_bytes(pictures[id(phase)])
dinsegment.studies.results.write_overview = drawn_once
if hasattr(os, "fork"):
    for phase in phases:
        drawn_once(phase, Path(sys.argv[1]).with_name("picture.png"))
for line in sys.stdin:
    steps = int(line)
    pid = os.fork() if hasattr(os, "fork") else 0
    if pid == 0:
        write_results(phases, Path(sys.argv[1]))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""Writes results for each number on a line, and is gone after so many steps of putting them in their place; where a
process can fork, what is gone is a copy of it, whose exit code it tells: it need not import everything each time."""


@pytest.fixture
def crash(tmp_path):
    """Crashes after so many steps of putting results in their place in `OUT`; gives the exit code."""
    started: list[forked.Popen] = []

    def crash(steps: int) -> int:
        if not started or started[-1].poll() is not None:
            command = [sys.executable, "-c", CRASHES, str(tmp_path / "OUT")]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            pipe = subprocess.PIPE
            started.append(forked.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True))
        started[-1].stdin.write(f"{steps}\n")
        started[-1].stdin.flush()
        return int(started[-1].stdout.readline() or started[-1].wait())

    yield crash
    for process in started:
        process.communicate()


def test_after_a_crash_anywhere_in_the_exchange_the_same_goes_on(tmp_path, crash):
    """Each time another step of putting results in their place is the last one of its process."""
    output = tmp_path / "OUT"
    crashed = 0
    for steps in (0, 1, 4, 9, 10):
        write_results(made_up(0), output)
        assert crash(steps) == 9
        crashed += 1
        write_results(made_up(2), output)
        for leftover in output.glob(".*"):
            assert leftover.name.startswith(".dinsegment-") or leftover.suffix == ".json"
        assert [name for name in names(output) if not name.startswith(".")] == [MANIFEST, *FILES]
    assert crashed == 5


def test_a_failed_run_takes_nothing_away_that_others_have_put_into_its_folder(tmp_path):
    output = tmp_path / "new" / "OUT"
    with pytest.raises(OutputError, match="full"), staged(output, "segmentation") as folder:
        (folder / "enhanced.nrrd").write_text("half")
        (output / "theirs.txt").write_text("theirs")
        raise OSError(28, "No space left: the disk is full")
    assert names(tmp_path) == ["new/OUT/theirs.txt"]
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "a" / "b", "segmentation"):
        raise ZeroDivisionError
    assert not (tmp_path / "a").exists()


def test_a_list_that_names_files_elsewhere_is_not_this_programs(tmp_path):
    (tmp_path / "theirs.txt").write_text("theirs")
    digest = hashlib.sha256(b"theirs").hexdigest()
    output = tmp_path / "OUT"
    for name in ("../theirs.txt", "/theirs.txt", "a/../../theirs.txt", ".."):
        write_results(made_up(0), output)
        content = json.loads((output / MANIFEST).read_text(encoding="utf-8"))
        content["files"]["segmentation"][name] = [digest]
        (output / MANIFEST).write_text(json.dumps(content))
        assert Manifest.read(output) is None and written(output, "segmentation") == {}
        with pytest.raises(OutputError, match=MANIFEST):
            write_results(made_up(1), output)
        (output / MANIFEST).unlink()
        for file in output.iterdir():
            file.unlink()
    assert (tmp_path / "theirs.txt").exists()


# --- batches -----------------------------------------------------------------------------------------


def test_a_batch_keeps_corrections_by_what_is_in_the_files(program, images, tmp_path):
    output = tmp_path / "OUT"
    command = ("segment", *images, "-o", output)
    assert program(*command)[0] == 0
    corrected = output / "p0" / "segmentation.seg.nrrd"
    correct(corrected)
    before = hashes(output / "p0")
    code, _, errors = program(*command)
    assert (code, beside_warnings(errors)) == (0, []) and hashes(output / "p0") == before
    assert str(corrected) in errors
    assert [row["Status"] for row in table(output)] == ["skipped", "skipped"]
    assert str(corrected) in table(output)[0]["Message"]

    code, _, errors = program(*command, "--no-resume")
    assert code == 2 and hashes(output / "p0") == before
    one_error(errors, corrected, "--overwrite")
    assert [row["Status"] for row in table(output)] == ["failed", "done"]

    code, _, errors = program(*command, "--no-resume", "--overwrite")
    assert code == 0 and str(corrected) in errors
    assert "Overwritten" in table(output)[0]["Message"] and hashes(output / "p0") != before
    assert program(*command)[0] == 0
    assert [row["Status"] for row in table(output)] == ["skipped", "skipped"]


def test_results_of_another_image_in_a_known_folder_are_not_taken_for_its_own(program, images, tmp_path):
    output = tmp_path / "OUT"
    assert program("segment", *images, "-o", output)[0] == 0
    assert program("segment", images[1], "-o", output / "p0")[0] == 0
    assert program("segment", *images, "-o", output)[0] == 0
    assert [row["Status"] for row in table(output)] == ["done", "skipped"]
    labels = [read_volume(output / name / "segmentation.seg.nrrd").array for name in ("p0", "p1")]
    assert not np.array_equal(*labels)


def test_inputs_in_the_output_folder_stay_as_they_are(program, images, tmp_path):
    (tmp_path / "p1").mkdir()
    inputs = [tmp_path / "p0.nii.gz", tmp_path / "p1" / "enhanced.nrrd"]
    inputs[0].write_bytes(images[0].read_bytes())
    write_volume(read_volume(images[1]), inputs[1])
    write_phantom_series(tmp_path / "p2", 1, slices=2)
    before = hashes(tmp_path)
    for status in ("done", "skipped"):
        assert program("segment", inputs[0], inputs[1], tmp_path / "p2", "-o", tmp_path)[0] == 0
        assert [row["Status"] for row in table(tmp_path)] == [status] * 3
        assert before.items() <= hashes(tmp_path).items()
        assert names(tmp_path / "p1") == ["enhanced.nrrd"]
    assert [row["Folder"] for row in table(tmp_path)] == ["p0", "enhanced", "p2_2"]


def test_results_beside_the_slices_that_they_were_made_of_are_no_slices(program, images, tmp_path):
    """A folder of DICOM images that is the output folder, too, and then one of several inputs."""
    write_phantom_series(tmp_path / "p2", 1, slices=2)
    before = hashes(tmp_path)
    for _ in range(2):
        assert program("segment", tmp_path / "p2", "-o", tmp_path / "p2")[0] == 0
        assert before.items() <= hashes(tmp_path).items()
    for status in ("done", "skipped"):
        assert program("segment", tmp_path / "p2", images[0], "-o", tmp_path / "p2")[0] == 0
        assert [row["Status"] for row in table(tmp_path / "p2")] == [status] * 2
        assert before.items() <= hashes(tmp_path).items()


@pytest.mark.parametrize("name", [TABLE, INDEX, ERRORS])
def test_tables_and_logs_of_the_users_are_refused(program, images, tmp_path, name, monkeypatch):
    monkeypatch.setattr("dinsegment.studies.many.compute_study", unfound)
    (tmp_path / name).write_text("mine\n")
    for option in ([], ["--overwrite"]):
        before = hashes(tmp_path)
        code, _, errors = program("segment", *images, "-o", tmp_path, *option)
        assert code == 2 and hashes(tmp_path) == before
        one_error(errors, tmp_path / name)


def test_a_table_that_was_edited_is_kept(program, images, tmp_path):
    command = ("segment", *images, "-o", tmp_path)
    assert program(*command)[0] == 0
    with (tmp_path / TABLE).open("a") as file:
        file.write("my remark\n")
    before = hashes(tmp_path)
    code, _, errors = program(*command)
    assert code == 2 and hashes(tmp_path) == before
    one_error(errors, tmp_path / TABLE, "--overwrite")
    assert program(*command, "--overwrite")[0] == 0 and "my remark" not in (tmp_path / TABLE).read_text(
        encoding="utf-8"
    )
    assert program(*command)[0] == 0


def test_a_folder_that_has_become_anothers_meanwhile_is_left_to_it(tmp_path, images, model):
    """Two batches of images of the same name begin at the same time."""
    ours, theirs = (Ledger(tmp_path, HEART, find_entry(None, HEART)) for _ in range(2))
    (tmp_path / "other").mkdir()
    same = tmp_path / "other" / images[0].name
    same.write_bytes(images[1].read_bytes())
    folder = tmp_path / "p0"
    assert theirs.claim(Study(same, folder)) is None
    theirs.settle(Study(same, folder), write_study(Study(same, folder), made_up(0)))
    before = hashes(tmp_path)
    ended: list[StudyResult] = []
    segment_studies([Study(images[0], folder)], HEART, model, "cpu", ours, ended.append)
    assert [result.status for result in ended] == ["failed"] and str(same) in ended[0].message
    assert hashes(tmp_path) == before


# --- names and places --------------------------------------------------------------------------------


@posix_names
@pytest.mark.parametrize(
    "name",
    [
        r"a$\frac$b^{.nii.gz", r"$\alpha$.nii.gz", "[bold]x[bold.nii.gz", "two\nlines\x1b.nii.gz",
        "心" * 80 + ".nii.gz", "-dash.nii.gz", " .nii.gz", "a" * 248 + ".nii.gz",
    ],
    ids=["mathtext", "greek", "markup", "control", "long", "dash", "blank", "longest"],
)  # fmt: skip
def test_odd_names_are_segmented_alone_and_in_a_batch(program, images, tmp_path, name):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    path.write_bytes(images[0].read_bytes())
    code, _, errors = program("segment", path, "-o", tmp_path / "one")
    assert (code, beside_warnings(errors)) == (0, []) and names(tmp_path / "one") == [MANIFEST, *FILES]
    (tmp_path / "in" / "other").mkdir()
    same = tmp_path / "in" / "other" / name
    same.write_bytes(images[1].read_bytes())
    code, _, errors = program("segment", path, same, "-o", tmp_path / "many")
    assert (code, beside_warnings(errors)) == (0, [])
    assert [row["Status"] for row in table(tmp_path / "many")] == ["done", "done"]


@posix_names
def test_what_cannot_be_an_input_is_its_own_row(program, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("loop.nii.gz").symlink_to("loop.nii.gz")
    Path("cut.nii.gz").write_bytes(images[0].read_bytes()[:500])
    Path(f"{NOT_UTF8}.nii.gz").write_bytes(images[0].read_bytes())
    bad = [
        "loop.nii.gz", "x" * 300 + ".nii.gz", "cut.nii.gz", f"{NOT_UTF8}.nii.gz", f"{NOT_UTF8}2.nii.gz",
        "no\nwhere.nrrd",
    ]  # fmt: skip
    code, _, errors = program("segment", bad[0], *bad[1:], images[0], "-o", "OUT")
    assert code == 2
    assert [row["Status"] for row in table(Path("OUT"))] == [*["failed"] * len(bad), "done"]
    assert len(beside_warnings(errors)) == len(bad) and "Traceback" not in errors
    assert not (Path("OUT") / ERRORS).exists()
    for name in bad:
        code, _, errors = program("segment", name, "-o", "ONE")
        assert code == 2 and not Path("ONE").exists()
        one_error(errors, name)


@posix_names
def test_a_dicom_folder_whose_name_is_not_utf8_is_read(program, tmp_path):
    folder = tmp_path / NOT_UTF8
    write_phantom_series(folder, 1, slices=2)
    for file in sorted(folder.iterdir()):
        file.rename(folder / f"{NOT_UTF8}{file.name}")
    assert program("segment", folder, folder, "-o", tmp_path / "OUT")[0] == 0
    assert [row["Status"] for row in table(tmp_path / "OUT")] == ["done", "done"]
    content = json.loads((tmp_path / "OUT" / "caf_" / "measurements.json").read_text(encoding="utf-8"))
    assert content["input"] == "caf\\xe9"
    assert program("segment", folder, folder, "-o", tmp_path / "OUT")[0] == 0
    assert [row["Status"] for row in table(tmp_path / "OUT")] == ["skipped", "skipped"]


@posix_names
def test_an_output_whose_name_is_not_utf8_is_refused(program, images, tmp_path):
    for output in (tmp_path / NOT_UTF8, tmp_path / NOT_UTF8 / "in"):
        for inputs in (images[:1], images):
            code, _, errors = program("segment", *inputs, "-o", output)
            assert code == 2 and list(tmp_path.iterdir()) == []
            one_error(errors, output, "UTF-8")
    with pytest.raises(OutputError, match=r"caf\\xe9"):
        write_volume(read_volume(images[0]), tmp_path / f"{NOT_UTF8}.nrrd")
    with pytest.raises(InputError, match=r"caf\\xe9"):
        check_name(tmp_path / NOT_UTF8)


def test_a_long_last_suffix_leaves_room_for_a_temporary_name(tmp_path):
    path = tmp_path / ("a." + "b" * 253)
    with atomic_path(path) as temporary:
        temporary.write_text("x")
    assert path.read_text(encoding="utf-8") == "x"


@pytest.mark.parametrize("name", ["cuda:first", "cuda:", "cuda:-1", "cuda:²", "cuda:1:2", " cuda", "cpu:", "CPU", ""])
def test_devices_that_there_cannot_be(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="There is no device"):
        choose_device(name)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(InputError, match="'cuda:2'"):
        choose_device("cuda:2")


# --- other commands -----------------------------------------------------------------------------------

SAX = Series(shape=(3, 16, 14), axes=SERIES["oblique"].axes, step=8.0, thickness=6.0)


@pytest.fixture
def export(run, tmp_path):
    """A DICOM series, a segmentation of it with other fields, and the command that exports it."""
    write_series(tmp_path / "images", SAX)
    volume = read_volume(tmp_path / "images")
    labels = np.random.default_rng(0).integers(0, 4, volume.shape).astype(np.uint8)
    write_segmentation(Segmentation(volume, labels, HEART, "m", volume, "cpu", 1.0), tmp_path / "heart.seg.nrrd")

    def export(*options: object, output: Path = tmp_path / "seg.dcm", **fields: str) -> tuple[int, str]:
        image = sitk.ReadImage(str(tmp_path / "heart.seg.nrrd"))
        for key, value in fields.items():
            image.SetMetaData(key, value)
        sitk.WriteImage(image, str(tmp_path / "odd.seg.nrrd"), True)
        code, _, errors = run(
            "export", tmp_path / "odd.seg.nrrd", "--source", tmp_path / "images", "-o", output, *options
        )
        return code, errors

    return export


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("Segment0_LabelValue", value) for value in ("one", "0", "-1", "1.5", "70000", "9" * 30, "2", "²")),
        *(("Segment0_Color", value) for value in ("red", "0.1 0.2", "1 2 3", "nan 0 0", "0.1 0.2 0.3 0.4", "-0.5 0 0")),
    ],
)
def test_odd_labels_and_colours_are_named(export, tmp_path, field, value):
    code, errors = export(**{field: value})
    assert code == 2 and not (tmp_path / "seg.dcm").exists()
    one_error(errors, "odd.seg.nrrd")
    assert f"'{value}'" in errors or "two segments" in errors


def test_an_export_replaces_no_other_file(export, tmp_path):
    source = min((tmp_path / "images").iterdir())
    before = hashes(tmp_path / "images")
    for option in ([], ["--overwrite"]):
        code, errors = export(*option, output=source)
        assert code == 2 and hashes(tmp_path / "images") == before
        one_error(errors, source)
    assert export()[0] == 0
    first = hashes(tmp_path)[str(tmp_path / "seg.dcm")]
    code, errors = export()
    assert code == 2 and hashes(tmp_path)[str(tmp_path / "seg.dcm")] == first
    one_error(errors, "seg.dcm", "--overwrite")
    code, errors = export("--overwrite")
    assert code == 0 and "Overwritten" in errors and hashes(tmp_path)[str(tmp_path / "seg.dcm")] != first


@pytest.fixture
def data(tmp_path) -> Path:
    """Three phantom hearts as ACDC has them, one of them damaged."""
    folder = tmp_path / "data"
    write_patients(folder, 3, slices=2, size=(64, 80), spacing=(16.0, 2.8, 2.5))
    (tmp_path / "split.txt").write_text("patient001\npatient002\npatient003\n")
    damaged = folder / "patient002" / "patient002_frame03.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:400])
    return folder


def test_evaluate_names_a_bad_case_and_counts_the_others_when_told_to(program, data, tmp_path):
    command = ("evaluate", "--data", data, "--split", tmp_path / "split.txt", "-o", tmp_path / "OUT")
    before = hashes(data)
    code, _, errors = program(*command)
    assert code == 2 and names(tmp_path / "OUT") == ["cases.csv", MANIFEST]
    assert "patient002_frame03.nii.gz" in errors and "--leave-out-failed" in errors.splitlines()[-1]
    code, _, errors = program(*command, "--leave-out-failed")
    assert code == 0 and len(errors.splitlines()) == 1 and "patient002_frame03.nii.gz" in errors
    metrics = json.loads((tmp_path / "OUT" / "metrics.json").read_text(encoding="utf-8"))
    assert len(metrics["cases"]) == 5 and [case["case"] for case in metrics["failed"]] == ["patient002_frame03"]
    assert [p["patient"] for p in metrics["patients"]] == ["patient001", "patient003"]
    with (tmp_path / "OUT" / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["message"]]
    assert [row["case"] for row in rows] == ["patient002_frame03"] and "damaged" in rows[0]["message"]
    assert "patient002_frame03" in (tmp_path / "OUT" / "report.html").read_text(encoding="utf-8")
    assert hashes(data) == before


@pytest.fixture
def plots_once(monkeypatch):
    """Plots of a report that are drawn once and are the same for the same values: for what is written several times."""
    from dinsegment.training import report

    plots: dict[bytes, bytes] = {}

    def once(draw: Callable[..., bytes]) -> Callable[..., bytes]:
        def plot(*values: object) -> bytes:
            key = pickle.dumps((draw.__name__, values))
            if key not in plots:
                plots[key] = draw(*values)
            return plots[key]

        return plot

    for name in ("dice_png", "agreement_png", "picture_png"):
        monkeypatch.setattr(report, name, once(getattr(report, name)))


def test_evaluate_replaces_its_own_files_alone(program, data, tmp_path, results, monkeypatch, plots_once):
    (tmp_path / "split.txt").write_text("patient001\n")
    command = ("evaluate", "--data", data, "--split", tmp_path / "split.txt", "-o")
    assert program(*command, results)[0] == 0 and program(*command, results)[0] == 0
    kept = [*FILES, "cases.csv", MANIFEST, "metrics.json", "patients.csv", "report.html"]
    assert names(results) == sorted(kept)
    correct(results / "cases.csv")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cases.csv").write_text("mine")
    before = hashes(tmp_path)
    monkeypatch.setattr("dinsegment.training.evaluation.evaluate", unfound)
    for folder in (results, tmp_path / "mine"):
        code, _, errors = program(*command, folder)
        assert code == 2 and hashes(tmp_path) == before
        one_error(errors, folder / "cases.csv")


def test_train_names_bad_cases_first_and_goes_on_without_them_when_told_to(run, data, tmp_path, monkeypatch):
    taken: list[list[str]] = []

    def train(_recipe: object, *parts: object) -> object:
        taken.extend([[case.name for case in part] for part in parts[:2]])
        raise OutputError("Enough.")

    monkeypatch.setattr("dinsegment.training.trainer.train", train)
    (tmp_path / "train.txt").write_text("patient001\npatient002\n")
    (tmp_path / "validation.txt").write_text("patient003\n")
    labels = data / "patient003" / "patient003_frame03_gt.nii.gz"
    labels.write_bytes(labels.read_bytes()[:400])
    recipe = next(name for name in list_recipes() if load_recipe(name).task == HEART)
    command = (
        "train", "--recipe", recipe, "--data", data, "--train", tmp_path / "train.txt",
        "--validation", tmp_path / "validation.txt", "-o", tmp_path / "OUT",
    )  # fmt: skip
    before = hashes(tmp_path)
    code, _, errors = run(*command)
    assert code == 2 and not taken and hashes(tmp_path) == before
    assert [word in errors for word in ("patient002_frame03", "patient003_frame03_gt", "2 of 6")] == [True] * 3
    code, _, errors = run(*command, "--leave-out-failed")
    assert "Enough." in errors
    assert taken == [["patient001_frame03", "patient001_frame09", "patient002_frame09"], ["patient003_frame09"]]


def test_train_does_not_begin_over_another_run(run, data, tmp_path):
    (tmp_path / "train.txt").write_text("patient001\n")
    (tmp_path / "OUT").mkdir()
    recipe = next(name for name in list_recipes() if load_recipe(name).task == HEART)
    command = (
        "train", "--recipe", recipe, "--data", data, "--train", tmp_path / "train.txt",
        "--validation", tmp_path / "train.txt", "-o", tmp_path / "OUT",
    )  # fmt: skip
    for name in ("best.safetensors", "checkpoint.pt", "log.csv"):
        (tmp_path / "OUT" / name).write_text("of weeks")
        before = hashes(tmp_path)
        code, _, errors = run(*command)
        assert code == 2 and hashes(tmp_path) == before
        one_error(errors, tmp_path / "OUT" / name, "--resume" if name == "checkpoint.pt" else "no checkpoint")
        (tmp_path / "OUT" / name).unlink()


def test_train_does_not_choose_weights_on_what_they_were_fitted_to(run, data, tmp_path):
    (tmp_path / "train.txt").write_text("patient001\npatient002\n")
    (tmp_path / "validation.txt").write_text("patient003\npatient002\n")
    recipe = next(name for name in list_recipes() if load_recipe(name).task == HEART)
    splits = ("--train", tmp_path / "train.txt", "--validation", tmp_path / "validation.txt")
    code, _, errors = run("train", "--recipe", recipe, "--data", data, *splits, "-o", tmp_path / "OUT")
    assert code == 2 and not (tmp_path / "OUT").exists()
    one_error(errors, tmp_path / "train.txt", "'patient002'", "fitted")


def test_a_training_that_is_interrupted_says_how_it_goes_on(run, data, tmp_path, monkeypatch):
    def train(_recipe: object, _train: object, _validation: object, output: Path, *_others: object) -> None:
        if not output.exists():
            output.mkdir()
            raise KeyboardInterrupt
        (output / "checkpoint.pt").write_bytes(b"of an epoch")
        raise KeyboardInterrupt

    monkeypatch.setattr("dinsegment.training.trainer.train", train)
    (tmp_path / "train.txt").write_text("patient001\n")
    recipe = next(name for name in list_recipes() if load_recipe(name).task == HEART)
    command = ("train", "--recipe", recipe, "--data", data, "--train", tmp_path / "train.txt", "-o", tmp_path / "OUT")
    for words in ("no checkpoint yet", "--resume goes on"):
        code, _, errors = run(*command)
        assert code == 130 and errors.startswith("Stopped: ") and words in errors and errors.count("\n") == 1
