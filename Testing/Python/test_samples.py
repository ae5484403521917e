"""Samples: one draw for a whole case, what differs between draws, intervals, files and requests."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from dciodvfy import dciodvfy_errors
from dicom_cases import SERIES, headers, source_of, volume_of
from pydicom import dcmread
from typer.testing import CliRunner

from dinsegment import worker, worker_compute, worker_exchange
from dinsegment.cli import app
from dinsegment.dicom.read.patient import Patient
from dinsegment.dicom.write.parametric_map import write_disagreement
from dinsegment.enhancement.grey import window_inside
from dinsegment.errors import InputError
from dinsegment.images import read_volume
from dinsegment.images.samples import Samples
from dinsegment.images.segmentation import OTHER_IMAGE, Finding, Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.inference import samples as sampling
from dinsegment.inference.draws import DEFAULTS, SampleOptions, Variations, vary
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.pipeline import segment
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.samples import probability_of_another, sampling_model, with_samples
from dinsegment.inference.view import View
from dinsegment.measurements.intervals import NORMAL_90, intervals_of
from dinsegment.measurements.study import MeasureOptions, measure_study
from dinsegment.models.entries import ModelEntry, read_entries
from dinsegment.network import CDALConfig, DINConfig, build_network
from dinsegment.network.kinds import Draw, dropped
from dinsegment.network.rewriting import for_inference
from dinsegment.phantom.heart import cine_phantom
from dinsegment.studies.results import write_results
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment.worker_compute import Models, run_samples
from dinsegment.worker_exchange import DISAGREEMENT, IMAGE, LABELS, Channel

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"slices": 4, "size": (64, 72), "spacing": (12.0, 2.5, 2.5)}
PREPARED = Preprocessing(spacing=3.0, box=48, overview_spacing=4.0)
TINY = DINConfig(
    dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), stem_stride=2, layer_scale=0.1, heads=(1, 1, 1, 1), window=4,
    merge_kernel=1, expand_kernel=1, decoder_dim=8, decoder_layers=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def phantoms():
    return cine_phantom(seed=3, **SMALL)


@pytest.fixture(scope="module")
def shipped():
    """The model that ships for hearts, which finds the phantom's."""
    return load_model("heart-din-small", HEART)


@pytest.fixture(scope="module")
def results(phantoms, shipped):
    return [segment(p.volume, HEART, shipped, "cpu") for p in phantoms]


@pytest.fixture(scope="module")
def drawn(results, shipped):
    return [with_samples(result, 4, shipped, "cpu") for result in results]


def test_labels_and_findings_stay_and_the_draws_differ(results, drawn):
    for before, after in zip(results, drawn, strict=True):
        assert np.array_equal(before.labels, after.labels) and before.findings == after.findings
        samples = after.samples
        assert samples.draws == 4 and samples.volumes_ml.shape == (4, 3) and samples.model == "heart-din-small"
        assert samples.disagreement.shape == before.volume.shape and samples.disagreement.dtype == np.float32
        assert samples.disagreement.min() >= 0 and samples.disagreement.max() <= 1
        assert samples.disagreement.max() > 0.2 and samples.disagreement.mean() < 0.1  # at the outlines, not all over
        assert (samples.volumes_ml.std(0) > 0).all()
        ml = [(before.labels == n).sum() * before.volume.voxel_volume_ml for n in (1, 2, 3)]
        assert samples.volumes_ml.mean(0) == pytest.approx(ml, rel=0.3)


def test_the_same_draw_gives_the_same(results, drawn, shipped):
    again = with_samples(results[0], 2, shipped, "cpu").samples
    assert np.array_equal(again.volumes_ml, drawn[0].samples.volumes_ml[:2])


def test_the_worker_leaves_in_a_byte_where_they_differ(results, drawn, shipped, tmp_path, monkeypatch):
    result, models = results[0], Models()
    monkeypatch.setattr(models, "load", lambda *_arguments, **_options: shipped)
    np.save(tmp_path / IMAGE, result.volume.array)
    np.save(tmp_path / LABELS, result.labels)
    about = {"name": "x", "ijk_to_ras": result.volume.ijk_to_ras, "modality": "MR"}
    request = {"id": 1, "folder": tmp_path, "task": "heart", "model": None, "device": "cpu", "draws": 4}
    done = run_samples({**request, "volume": about}, models, Channel(io.BytesIO()))
    steps = np.load(tmp_path / DISAGREEMENT)
    assert steps.dtype == np.uint8 and done["samples"]["volumes_ml"] == drawn[0].samples.volumes_ml.tolist()
    np.testing.assert_allclose(steps / 255, drawn[0].samples.disagreement, atol=0.5 / 255 + 1e-6)


def test_what_is_varied_is_one_for_the_whole_case(results, shipped, monkeypatch):
    """End diastole and end systole are seen with the same shift, window and features in the same draw."""
    seen = []

    def watched(number, variations, preprocessing, view):
        made = vary(number, variations, preprocessing, view)
        seen.append(
            (number, made[0], made[1], np.subtract(made[2].center, view.center), made[2].spacing / view.spacing)
        )
        return made

    monkeypatch.setattr(sampling, "vary", watched)
    for result in results:
        with_samples(result, 2, shipped, "cpu")
    ed, es = seen[:2], seen[2:]
    for one, other in zip(ed, es, strict=True):
        assert one[:3] == other[:3] and one[4] == other[4] and np.allclose(one[3], other[3])
    assert ed[0][1:3] != ed[1][1:3] and ed[0][4] != ed[1][4]


@pytest.mark.parametrize("name", ["shift_mm", "zoom", "window", "gamma", "dropout"])
def test_each_variation_changes_what_the_network_says(name, phantoms):
    torch.manual_seed(2)
    network = for_inference(build_network(TINY))
    prepared = replace(PREPARED, enhancement=replace(PREPARED.enhancement, parameters={"gamma": 1.0}))
    view = View(SliceStack(np.zeros((1, 100, 100), np.float32), (2.0, 2.0), 0), (80.0, 80.0), (48, 48), 3.0)
    slices = {"none": [], "some": []}
    for which, variations in (("none", Variations()), ("some", Variations(**{name: 0.2}))):
        draw, preprocessing, moved = vary(1, variations, prepared, view)
        image = torch.linspace(-1, 1, 48 * 48).view(1, 1, 48, 48).sin()
        how = preprocessing.grey_window, preprocessing.percentiles, preprocessing.window_shift
        low, high = window_inside(image[0], torch.ones(48, 48), *how)
        grey = 2 * (image - low) / (high - low) - 1
        enhanced = preprocessing.enhancement(grey[0].clamp(-1, 1))[None]
        with torch.no_grad():
            slices[which] = [moved, network.sample(grey, enhanced, draw)]
    same = slices["none"][0] == slices["some"][0]
    if name == "shift_mm":
        assert (np.abs(np.subtract(slices["some"][0].center, slices["none"][0].center)) > 0.01).all()  # along both axes
    assert same == (name not in ("shift_mm", "zoom"))
    if same:
        assert not torch.allclose(slices["none"][1], slices["some"][1], atol=1e-6)


def test_without_variations_a_draw_is_the_answer():
    network = for_inference(build_network(TINY))
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(network.sample(x, x, Draw(3)), network.probabilities(x, x))
        varied = network.sample(x, x, Draw(3, 0.3))
        assert torch.allclose(
            varied[:1], network.sample(x[:1], x[:1], Draw(3, 0.3)), atol=1e-5
        )  # the same in all images
        assert not torch.allclose(varied, network.probabilities(x, x), atol=1e-4)
    view = View(SliceStack(np.zeros((1, 8, 8), np.float32), (1.0, 1.0), 0), (1.0, 2.0), (48, 48), 3.0)
    assert vary(5, Variations(), PREPARED, view) == (Draw(5), PREPARED, view)


def test_features_are_left_out_by_channel_and_scaled():
    levels = dropped([torch.ones(2, 400, 3, 3), torch.ones(2, 300, 2, 2)], Draw(1, 0.25))
    for level in levels:
        assert (level[0] == level[1]).all() and (level.amin((2, 3)) == level.amax((2, 3))).all()
        assert set(level.unique().tolist()) == {0.0, float(torch.tensor(1.0) * torch.tensor(4 / 3))}
        assert float(level.mean()) == pytest.approx(1, abs=0.12)


def test_the_overlay_is_the_mean_probability_of_another_label():
    shares = torch.tensor([[[0.7, 0.2, 0.0]], [[0.1, 0.5, 0.0]]])
    doubt = probability_of_another(shares, np.array([[1, 0, 0]], np.uint8))
    assert doubt.tolist() == [pytest.approx([0.3, 0.7, 0.0], abs=1e-6)]


def test_values_come_back_to_the_images_grid(results):
    """Where all of the box is one segment, the image is, too, and nothing outside of it."""
    stack = SliceStack.of(results[0].volume)
    view = View(stack, stack.middle_mm, (20, 20), 4.0)
    ones = (torch.ones(1, 20, 20) for _ in range(len(stack.array)))
    back = torch.stack(list(view.values_back(ones)))
    assert back.shape == (len(stack.array), 1, *stack.array.shape[1:])
    # A pixel of the box reaches half of its 4 mm beyond its centre: 80 mm along both axes.
    assert float(back[0].sum()) * stack.spacing[0] * stack.spacing[1] == pytest.approx(80 * 80, rel=0.05)


# --- which model ----------------------------------------------------------------------------------


def test_a_model_that_draws_samples_itself_is_asked_first(monkeypatch, results, shipped):
    entry = read_entries()[0]
    config = CDALConfig(classes=4, width=8, multipliers=(1, 2), attention=(1,), blocks=1, steps=2, mapping=8, latent=4)
    torch.manual_seed(0)
    network = for_inference(build_network(config))
    own = ModelEntry(**{**vars(entry), "name": "own", "network": config.to_dict()})
    monkeypatch.setattr(sampling, "read_entries", lambda: [entry, own])
    assert sampling_model(HEART) == "own" and sampling_model(ABDOMEN) is None
    asked = []

    def load(name, task, **_):
        asked.append(name)
        return Model(name, "heart", network, replace(PREPARED, locate="middle"))

    samples = with_samples(results[0], 2, shipped, "cpu", load=load).samples
    assert asked == ["own"] and samples.model == "own" and samples.scales == {}
    assert not np.array_equal(*samples.volumes_ml)  # draws of the network itself: nothing of the image is varied
    assert DEFAULTS["samples"] == Variations()


def test_where_the_model_finds_no_anatomy_nothing_is_drawn(results, shipped, tmp_path):
    """Draws that are all empty would look as if the labels were certain."""
    empty = results[0].volume.with_array(np.zeros_like(results[0].volume.array))
    result = with_samples(replace(results[0], volume=empty), 2, shipped, "cpu")
    assert result.samples is None and intervals_of([result], measure_study([result])) is None
    assert result.warnings[-1].startswith("No samples were drawn") and "finds no anatomy" in result.warnings[-1]
    np.save(tmp_path / worker_exchange.IMAGE, empty.array)
    np.save(tmp_path / worker_exchange.LABELS, results[0].labels)
    request = {
        "folder": str(tmp_path), "id": 1, "task": "heart", "model": None, "device": "cpu", "draws": 2,
        "volume": {"name": "x", "ijk_to_ras": empty.ijk_to_ras.tolist(), "modality": "MR"},
    }  # fmt: skip
    answered = worker_compute.run_samples(request, worker_compute.Models(), worker_exchange.Channel(io.BytesIO()))
    assert answered["samples"] is None and answered["text"].startswith("No samples were drawn of 'x'")
    assert not (tmp_path / worker_exchange.DISAGREEMENT).exists()


def test_one_of_many_inputs_without_anatomy_does_not_end_the_run(phantoms, tmp_path):
    from dinsegment.images import write_volume

    (tmp_path / "in").mkdir()
    write_volume(phantoms[0].volume, tmp_path / "in" / "heart.nii.gz")
    array = np.random.default_rng(1).normal(100, 1, phantoms[0].volume.shape).astype(np.float32)
    write_volume(phantoms[0].volume.with_array(array), tmp_path / "in" / "noise.nii.gz")
    write_volume(phantoms[1].volume, tmp_path / "in" / "other.nii.gz")
    out = tmp_path / "out"
    inputs = sorted(map(str, (tmp_path / "in").iterdir()))
    command = ["segment", *inputs, "--task", "heart", "--samples", "2", "--device", "cpu", "-o", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    written = {p.parent.name: json.loads(p.read_text(encoding="utf-8")) for p in out.glob("*/measurements.json")}
    assert len(written) == 3
    drawn = {name: "samples" in content for name, content in written.items()}
    assert sorted(drawn.values()) == [False, True, True]
    table = (out / "studies.csv").read_text(encoding="utf-8").splitlines()
    assert "Left ventricle: Volume, 90 % interval from (ml)" in table[0].replace('"', "")
    without = next(content for content in written.values() if "samples" not in content)
    assert any("finds no anatomy" in text for text in without["warnings"])


@pytest.mark.parametrize("draws", [1, -4, 101])
def test_too_few_or_too_many_are_refused(draws, results, shipped):
    with pytest.raises(InputError, match=f"The number of samples cannot be {draws}: ask for 2 to 100"):
        with_samples(results[0], draws, shipped, "cpu")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"scales": {"ml": 0}}, ValueError),
        ({"floors": {"ml": -1}}, ValueError),
        ({"variations": {"dropout": 1.0}}, ValueError),
        ({"variations": {"shift_mm": -1}}, ValueError),
        ({"variations": {"shear": 1}}, TypeError),
        ({"scale": {}}, TypeError),
    ],
)
def test_options_that_cannot_be_are_refused(options, error):
    with pytest.raises(error):
        SampleOptions.from_dict(options, "probabilities")
    assert SampleOptions.from_dict({}, "probabilities").variations == DEFAULTS["probabilities"]


# --- intervals ------------------------------------------------------------------------------------


def pair_with(phantoms, volumes, scales):
    """ED and ES of a phantom with the true labels and these volumes (phases, draws, segments) in its draws."""
    none = np.zeros(phantoms[0].volume.shape, np.float32)
    return [
        Segmentation(
            p.volume, p.labels, HEART, "m", p.volume, "cpu", 0.0, samples=Samples("m", np.array(v), none, scales)
        )
        for p, v in zip(phantoms, volumes, strict=True)
    ]


def test_an_interval_reaches_as_many_deviations_as_the_patients_said(phantoms):
    ed, es = np.array([150.0, 160.0, 170.0]), np.array([60.0, 66.0, 66.0])
    muscle, right = np.full(3, 90.0), np.array([140.0, 150.0, 145.0])
    volumes = [np.stack((right, muscle, ed), 1), np.stack((right / 2, muscle, es), 1)]
    phases = pair_with(phantoms, volumes, {"ml": 2.0, "%": 3.0})
    measured = measure_study(phases)
    found = intervals_of(phases, measured)
    edv = found.of("lv_edv")
    assert edv.measurement.value == measured.value("lv_edv")
    assert (edv.high - edv.low) / 2 == pytest.approx(2 * 10.0)
    assert (edv.high + edv.low) / 2 == pytest.approx(measured.value("lv_edv"))
    fractions = 100 * (ed - es) / ed  # of each draw: both phases belong to one draw
    ef = found.of("lv_ef")
    assert (ef.high - ef.low) / 2 == pytest.approx(3 * fractions.std(ddof=1))
    assert found.of("lv_mass_ed") is None  # nobody has looked at grams
    assert found.of("rv_edv") is not None and found.calibrated and found.draws == 3
    floored = [replace(p, samples=replace(p.samples, floors={"ml": 24.0})) for p in phases]
    edv = intervals_of(floored, measured).of("lv_edv")
    assert (edv.high - edv.low) / 2 == pytest.approx(2 * 26.0)  # 10, 24, 26
    assert "nine in ten" in found.remark and json.dumps(found.to_dict())
    assert "calibrated on validation patients" in found.remark
    of_many = [replace(p, samples=replace(p.samples, patients=22)) for p in phases]
    assert "calibrated on 22 validation patients" in intervals_of(of_many, measured).remark
    few = [replace(p, samples=replace(p.samples, looked_at=16)) for p in phases]
    found = intervals_of(few, measured)
    assert not found.calibrated and found.remark.startswith("90 % intervals from 3 samples; from 16, such intervals")
    assert found.remark.endswith("for fewer nobody has looked.")


def test_a_number_with_a_scale_of_its_own_takes_that_and_others_their_units(phantoms):
    ed, es = np.array([150.0, 160.0, 170.0]), np.array([60.0, 66.0, 66.0])
    volumes = [np.stack((ed, np.full(3, 90.0), ed), 1), np.stack((es, np.full(3, 90.0), es), 1)]
    scales = {"ml": 2.0, "lv_edv": 0.5, "rv_esv": 9.0}
    phases = pair_with(phantoms, volumes, scales)
    measured = measure_study(phases)
    found = intervals_of(phases, measured)

    def half(key):
        one = found.of(key)
        return one.high - one.measurement.value

    assert half("lv_edv") == pytest.approx(0.5 * 10) and half("rv_edv") == pytest.approx(2 * 10)
    assert half("lv_esv") == pytest.approx(2 * es.std(ddof=1)) and half("rv_esv") == pytest.approx(9 * es.std(ddof=1))
    assert found.of("lv_ef") is None  # neither it nor its unit
    floored = [replace(p, samples=replace(p.samples, floors={"ml": 24.0, "rv_esv": 1.0})) for p in phases]
    found = intervals_of(floored, measured)
    assert half("lv_edv") == pytest.approx(5)  # the unit's floor goes with the unit's scale
    assert half("rv_edv") == pytest.approx(2 * 26) and half("rv_esv") == pytest.approx(9 * np.hypot(es.std(ddof=1), 1))


def test_an_indexed_number_has_the_interval_of_the_number_divided_likewise(phantoms):
    volumes = [np.full((2, 3), 100.0) + np.arange(2)[:, None] * n for n in (3, 1)]
    phases = pair_with(phantoms, volumes, {"ml": 2.0})
    phases = [replace(p, samples=replace(p.samples, floors={"ml": 4.0})) for p in phases]
    known = MeasureOptions(Patient(height_m=1.8, weight_kg=80.0))
    found = intervals_of(phases, measure_study(phases, known))
    edv, indexed = found.of("lv_edv"), found.of("lv_edv_bsa")
    area = measure_study(phases, known).surface_m2
    assert (indexed.low, indexed.high) == pytest.approx((edv.low / area, edv.high / area))


def test_what_a_person_has_corrected_has_no_interval(phantoms):
    volumes = [np.full((2, 3), 100.0) + np.arange(2)[:, None] * n for n in (3, 1)]
    phases = pair_with(phantoms, volumes, {"ml": 2.0, "%": 2.0, "g": 2.0})
    measured = measure_study(phases)
    assert "corrected" not in intervals_of(phases, measured).remark
    systole = measured.function.end_systole
    phases[systole] = replace(phases[systole], changed=frozenset({HEART.chamber}))
    found = intervals_of(phases, measured)
    keys = {one.measurement.key for one in found.intervals}
    assert {"lv_edv", "rv_esv", "rv_ef", "lv_mass_ed"} <= keys and not keys & {"lv_esv", "lv_ef", "lv_sv"}
    assert "numbers of what a person has corrected have no interval" in found.remark
    # A person's labels are told from the network's where both are there, too.
    made = phases[systole].labels.copy()
    made[made == HEART.muscle] = 0
    phases[systole] = replace(phases[systole], made=made)
    keys = {one.measurement.key for one in intervals_of(phases, measured).intervals}
    assert "lv_mass_es" not in keys and {"lv_mass_ed", "lv_esv"} <= keys


def test_in_an_image_of_another_kind_nothing_has_an_interval(phantoms):
    """Nobody has looked at how wide it has to be there; one phase or both."""
    phases = pair_with(phantoms, [np.full((2, 3), 100.0) + np.arange(2)[:, None]] * 2, {"ml": 2.0})
    for some in (phases, phases[:1]):
        measured = measure_study(some)
        assert intervals_of(some, measured).intervals
        other = [replace(some[0], findings=(Finding("It is no heart.", kind=OTHER_IMAGE),)), *some[1:]]
        found = intervals_of(other, measured)
        assert not found.intervals and not found.calibrated
        assert found.remark.startswith("Numbers have no interval: the image does not look like")


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (np.s_[1:2], "a single slice does not show the whole left ventricle"),
        (np.s_[1:3], "the left ventricle is cut by the first slice and the last one"),
        (np.s_[:, :, 36:], "the left ventricle is cut by the edge of the field of view"),
    ],
    ids=["one slice", "stack", "field of view"],
)
def test_of_a_heart_that_is_not_shown_whole_nothing_has_an_interval(phantoms, part, why):
    """The patients that were looked at had whole hearts: nobody knows how wide intervals have to be of a part."""

    def shown(segmentation):
        volume = replace(segmentation.volume, array=segmentation.volume.array[part])
        return replace(segmentation, volume=volume, enhanced=volume, labels=segmentation.labels[part])

    whole = pair_with(phantoms, [np.full((2, 3), 100.0) + np.arange(2)[:, None]] * 2, {"ml": 2.0})
    for phases in (whole, whole[:1]):
        assert intervals_of(phases, measure_study(phases)).intervals
        cut = [shown(phase) for phase in phases]
        found = intervals_of(cut, measure_study(cut))
        assert not found.intervals and found.remark.startswith(f"Numbers have no interval: {why}")


def test_samples_come_back_from_json():
    samples = Samples("m", np.array([[1.0, 2.0], [3.0, 4.5]]), np.zeros(1), {"lv_edv": 2.0}, {"ml": 1.0}, 16, 22)
    back = Samples.from_dict(json.loads(json.dumps(samples.to_dict())), np.zeros(1))
    assert back.to_dict() == samples.to_dict() and back.draws == 2
    for wrong in ({"volumes_ml": [1.0]}, {"volumes_ml": [[float("nan")]]}, {"scales": {"ml": "x"}}):
        with pytest.raises(ValueError):
            Samples.from_dict({**samples.to_dict(), **wrong}, np.zeros(1))


def test_without_patients_it_says_so(phantoms):
    volumes = [np.full((2, 3), 100.0) + np.arange(2)[:, None] * n for n in (3, 1)]
    phases = pair_with(phantoms, volumes, {})
    found = intervals_of(phases, measure_study(phases))
    edv = found.of("lv_edv")
    assert (edv.high - edv.low) / 2 == pytest.approx(NORMAL_90 * np.std([0, 3], ddof=1))
    assert not found.calibrated and "no patients" in found.remark
    assert found.of("lv_mass_ed").low <= measure_study(phases).value("lv_mass_ed")


def test_without_samples_there_are_none(phantoms):
    phases = [replace(s, samples=None) for s in pair_with(phantoms, np.ones((2, 2, 3)), {})]
    assert intervals_of(phases, measure_study(phases)) is None


# --- doors ----------------------------------------------------------------------------------------


def test_the_command_line_writes_the_overlay_and_intervals(tmp_path, phantoms, results):
    from dinsegment.images import write_volume

    paths = []
    for name, phantom in zip(("ed", "es"), phantoms, strict=True):
        paths.append(str(tmp_path / f"{name}.nii.gz"))
        write_volume(phantom.volume, paths[-1])
    out = tmp_path / "out"
    command = ["segment", *paths, "--task", "heart", "--phases", "--samples", "3", "--device", "cpu", "-o", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "90 % intervals from 3 samples" in " ".join(done.output.split())
    for phase in ("phase01", "phase02"):
        overlay = read_volume(out / phase / "disagreement.nrrd")
        image = read_volume(out / phase / "enhanced.nrrd")
        assert overlay.shape == image.shape and np.allclose(overlay.ijk_to_ras, image.ijk_to_ras)
        assert overlay.array.min() >= 0 and 0 < overlay.array.max() <= 1
    content = json.loads((out / "measurements.json").read_text(encoding="utf-8"))
    keys = {one["key"]: one for one in content["samples"]["intervals"]}
    values = {one["key"]: one["value"] for one in content["measurements"]}
    assert {"lv_edv", "lv_esv", "lv_ef", "rv_ef", "lv_mass_ed"} <= set(keys)
    assert all(one["low"] <= values[key] <= one["high"] for key, one in keys.items())
    # Without samples the overlay of the run before goes, and nothing else is different.
    again = CliRunner().invoke(app, [*(c for c in command if c not in ("--samples", "3"))])
    assert again.exit_code == 0, again.output
    assert not (out / "phase01" / "disagreement.nrrd").exists()
    assert "samples" not in json.loads((out / "measurements.json").read_text(encoding="utf-8"))


def test_the_command_line_refuses_a_number_that_cannot_be(tmp_path):
    done = CliRunner().invoke(app, ["segment", "--task", "heart", "--samples", "1", "-o", str(tmp_path / "out")])
    assert isinstance(done.exception, InputError) and not (tmp_path / "out").exists()


def test_the_worker_draws_samples_of_labels_that_are_there(tmp_path, results):
    np.save(tmp_path / worker_exchange.IMAGE, results[0].volume.array)
    np.save(tmp_path / worker_exchange.LABELS, results[0].labels)
    request = {
        "command": "samples", "id": 7, "folder": str(tmp_path), "task": "heart", "model": None, "device": "cpu",
        "draws": 2, "volume": {"name": "x", "ijk_to_ras": results[0].volume.ijk_to_ras.tolist(), "modality": "MR"},
    }  # fmt: skip
    events = []

    class Kept(worker_exchange.Channel):
        def __init__(self):
            self._said = 0.0

        def send(self, event, **content):
            events.append((event, json.loads(json.dumps(content))))

    worker.answer(request, worker_compute.Models(), Kept())
    event, content = events[-1]
    assert event == "done", content
    samples = content["samples"]
    assert np.shape(samples["volumes_ml"]) == (2, 3) and samples["model"] == "heart-din-small" and not content["text"]
    overlay = np.load(tmp_path / worker_exchange.DISAGREEMENT)
    assert overlay.dtype == np.uint8 and overlay.shape == results[0].labels.shape  # in steps of 1/255
    assert overlay.max() > 25 and 0 < (overlay > 0).mean() < 0.5
    fractions = [c["fraction"] for e, c in events if e == "progress"]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0


# --- for an archive -------------------------------------------------------------------------------


def sampled(series, source, seed=0):
    """A segmentation of a DICOM series with an overlay that is different in each voxel."""
    volume = volume_of(series, source)
    labels = np.zeros(volume.shape, np.uint8)
    labels[:, 1:4, 1:4] = 3
    overlay = np.random.default_rng(seed).random(volume.shape, np.float32)
    samples = Samples("m", np.ones((2, 3)), overlay)
    return Segmentation(volume, labels, HEART, "m", volume, "cpu", 0.0, samples=samples)


def read_map(path):
    made = dcmread(path)
    frames = np.frombuffer(made.FloatPixelData, "<f4").reshape(-1, made.Rows, made.Columns)
    positions = [g.PlanePositionSequence[0].ImagePositionPatient for g in made.PerFrameFunctionalGroupsSequence]
    return made, frames, np.array(positions, float)


@pytest.mark.parametrize("kind", [name for name, series in SERIES.items() if series.shape[0] > 1])
def test_a_map_lies_on_the_images_it_was_made_of(kind, tmp_path):
    series = SERIES[kind]
    source = source_of(headers(series))
    result = sampled(series, source)
    written = write_results([result], tmp_path / "out")
    assert not any("No DICOM" in warning for warning in written[0].warnings)
    made, frames, positions = read_map(tmp_path / "out" / "disagreement.dcm")
    order = {tuple(np.round(np.array(h.ImagePositionPatient, float), 2)): k for k, h in enumerate(source.headers)}
    for frame, position in zip(frames, positions, strict=True):
        k = order[tuple(np.round(position, 2))]
        assert np.array_equal(frame, result.samples.disagreement[k])
    first = source.headers[0]
    assert made.StudyInstanceUID == first.StudyInstanceUID and made.Manufacturer == "DINSegment"
    referenced = {
        i.ReferencedSOPInstanceUID for s in made.ReferencedSeriesSequence for i in s.ReferencedInstanceSequence
    }
    assert referenced == {h.SOPInstanceUID for h in source.headers}
    seg = dcmread(tmp_path / "out" / "segmentation.dcm")
    assert (made.SeriesNumber, seg.SeriesNumber) == (304, 300) and made.SeriesInstanceUID != seg.SeriesInstanceUID
    mapping = made.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.RealWorldValueSlope == 1.0 and mapping.LUTExplanation == "Probability of another label"
    # Another run without samples takes it away again.
    write_results([replace(result, samples=None)], tmp_path / "out")
    assert not (tmp_path / "out" / "disagreement.dcm").exists()


def test_a_checker_of_dicom_finds_nothing_wrong_with_a_map(tmp_path):
    series = next(series for series in SERIES.values() if series.shape[0] > 1)
    write_results([sampled(series, source_of(headers(series)))], tmp_path / "out")
    assert dciodvfy_errors(tmp_path / "out" / "disagreement.dcm", "ParametricMap") == []


def test_a_map_of_an_image_that_is_no_dicom_is_refused(results, tmp_path):
    with pytest.raises(InputError, match="not read from DICOM"):
        write_disagreement(results[0], tmp_path / "x.dcm")
