"""The panel's section in which the rest follows what was corrected, clicked through on the Qt host."""

from __future__ import annotations

import dataclasses
import json
import time

import mrml
import numpy as np
import pytest
import slicer

pytest.importorskip("PySide6", reason="the panel needs PySide6")

from test_corrections import answer_of, correct_by_hand, shifted
from test_panel import choose, plain, shown

from dinsegment.errors import InputError
from dinsegment.images.segmentation import Finding, ToCorrect
from dinsegment.tasks import HEART
from dinsegment_slicer.panel.result import ResultNodes
from dinsegment_slicer.running.adapt_part import Adapted
from dinsegment_slicer.scene.corrections import corrected_slices, look_at
from dinsegment_slicer.scene.edits import ALGORITHM_NAME_TAG
from dinsegment_slicer.scene.sample_data import add_cine_phantom, add_heart_phantom

pytestmark = pytest.mark.usefixtures("coarse_phantoms")

SECTION = "dinsegment_slicer.panel.correction_section"


class Answers(mrml.InProcess):
    """A worker that needs no process: segments by thresholds, and answers anything else with what `answer` makes."""

    def __init__(self, segmenter=mrml.threshold, answer=None):
        super().__init__(segmenter)
        self.answer, self.parts = answer, []

    def begin(self, parts):
        self.parts += parts
        return AnswerJob(parts, lambda part: self.answer(part))


class AnswerJob:
    def __init__(self, parts, answer):
        self.finished, self.error, self.results, self.fraction, self.text, self.seconds_left = (
            False,
            None,
            (),
            0,
            "",
            None,
        )
        self._parts, self._answer = parts, answer

    def poll(self):
        if not self.finished:
            try:
                for part in self._parts:
                    part.check()
                self.results = tuple(map(self._answer, self._parts))
            except InputError as error:
                self.error = error
            self.finished = True
        return True

    def cancel(self):
        self.finished = True

    def close(self):
        self.cancel()


@pytest.fixture
def segmenting():
    return Answers()


@pytest.fixture
def asked(host, monkeypatch):
    """What the user was asked; the answer is yes."""
    questions = []
    monkeypatch.setattr(f"{SECTION}.ask", lambda question: bool(questions.append(question)) or True)
    return questions


def segmented(host, panel, node=None):
    node = node or add_heart_phantom(slicer.mrmlScene)
    choose(panel, node)
    panel.ui.segmentHeartButton.click()
    host.wait_until(lambda: not panel.controller.busy, 20)
    host.pump(0.5)
    return ResultNodes(panel.parameters).phases()


def apply_corrections(host, panel):
    panel.ui.applyCorrectionsButton.click()
    host.wait_until(lambda: not panel.controller.busy, 20)
    host.pump(0.5)


def labels_now(panel):
    return look_at(ResultNodes(panel.parameters).phases(), HEART).labels


def labels_in_view(panel):
    nodes = ResultNodes(panel.parameters)
    phase = nodes.phases()[nodes.selectedPhase()]
    return dataclasses.replace(phase, segmentationNode=panel.parameters.segmentationNode).labels(HEART)


def message(panel):
    return plain(panel.ui.messageLabel.text) if shown(panel.ui.messageFrame) else ""


def following(host, panel):
    """The rest follows by shifting it; corrected slices stay."""

    def answer(part):
        now = look_at(ResultNodes(panel.parameters).phases(), HEART)
        new = [shifted(labels) for labels in now.labels]
        for labels, given, seen in zip(new, now.labels, now.seen, strict=True):
            labels[list(seen)] = given[list(seen)]
        return answer_of(now, new)

    panel.logic.worker.answer = answer


class TestOffers:
    def test_nothing_without_a_result(self, host, panel):
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        host.pump(0.2)
        assert not shown(panel.ui.correctionSection)

    def test_what_can_be_done_with_one(self, host, panel):
        segmented(host, panel)
        ui = panel.ui
        assert shown(ui.correctionSection)
        enabled = {name: getattr(ui, name).enabled for name in ("applyCorrectionsButton", "undoCorrectionsButton")}
        assert enabled == {"applyCorrectionsButton": True, "undoCorrectionsButton": False}

    def test_nothing_follows_from_nothing(self, host, panel):
        segmented(host, panel)
        apply_corrections(host, panel)
        assert "Nothing was corrected since" in message(panel)
        assert panel.logic.worker.parts == []


class TestApply:
    def test_the_rest_follows_and_undo_is_one_step(self, host, panel, asked):
        (phase,) = segmented(host, panel)
        following(host, panel)
        correct_by_hand(phase, 4)
        (before,) = labels_now(panel)
        apply_corrections(host, panel)
        (after,) = labels_now(panel)
        assert np.array_equal(after[4], before[4])
        assert np.array_equal(np.delete(after, 4, 0), np.delete(shifted(before), 4, 0))
        assert message(panel) == "Two slices follow."
        assert corrected_slices(phase.segmentationNode, phase.volumeNode, HEART) == (4,)
        assert panel.ui.undoCorrectionsButton.enabled
        panel.ui.undoCorrectionsButton.click()
        host.pump(0.5)
        assert np.array_equal(labels_now(panel)[0], before)
        assert not panel.ui.undoCorrectionsButton.enabled
        assert asked == []

    def test_what_was_asked_is_what_the_user_has(self, host, panel, tmp_path):
        (phase,) = segmented(host, panel)
        following(host, panel)
        correct_by_hand(phase, 2)
        (labels,) = labels_now(panel)
        apply_corrections(host, panel)
        (part,) = panel.logic.worker.parts
        request = part.request()
        assert (request["command"], request["task"], request["seen"]) == ("correct", "heart", [[2]])
        assert request["volumes"][0]["name"] == phase.volumeNode.GetName()
        assert np.array_equal(part._phases[0][1], labels)

    def test_a_second_round_knows_the_first_ones_slices(self, host, panel):
        (phase,) = segmented(host, panel)
        following(host, panel)
        correct_by_hand(phase, 2)
        apply_corrections(host, panel)
        correct_by_hand(phase, 5)
        apply_corrections(host, panel)
        assert panel.logic.worker.parts[-1].request()["seen"] == [[2, 5]]

    def test_where_nothing_helps_nothing_changes(self, host, panel):
        (phase,) = segmented(host, panel)
        panel.logic.worker.answer = lambda part: dataclasses.replace(
            answer_of(look_at([phase], HEART), [labels_now(panel)[0]]), applied=False, text="It would not help."
        )
        correct_by_hand(phase, 2)
        (before,) = labels_now(panel)
        apply_corrections(host, panel)
        assert np.array_equal(labels_now(panel)[0], before)
        assert message(panel) == "It would not help."
        assert not panel.ui.undoCorrectionsButton.enabled

    def test_what_the_user_does_meanwhile_is_not_overwritten(self, host, panel):
        (phase,) = segmented(host, panel)

        def answer(_part):
            now = look_at([phase], HEART)
            correct_by_hand(phase, 6)
            return answer_of(now, [shifted(now.labels[0])])

        panel.logic.worker.answer = answer
        correct_by_hand(phase, 2)
        apply_corrections(host, panel)
        assert "You went on correcting meanwhile" in message(panel)
        assert look_at([phase], HEART).fresh == ((2, 6),)

    def test_what_was_corrected_since_is_taken_back_only_after_a_question(self, host, panel, asked, monkeypatch):
        (phase,) = segmented(host, panel)
        following(host, panel)
        correct_by_hand(phase, 2)
        apply_corrections(host, panel)
        correct_by_hand(phase, 5)
        (mine,) = labels_now(panel)
        monkeypatch.setattr(f"{SECTION}.ask", lambda question: False)
        panel.ui.undoCorrectionsButton.click()
        assert np.array_equal(labels_now(panel)[0], mine)
        monkeypatch.undo()
        assert panel.ui.undoCorrectionsButton.enabled

    def test_all_phases_of_a_cine_follow_what_was_corrected_in_one(self, host, panel):
        browserNode = add_cine_phantom(slicer.mrmlScene, 3)
        phases = segmented(host, panel, browserNode.GetMasterSequenceNode())
        assert len(phases) == 3
        following(host, panel)
        correct_by_hand(phases[1], 4)
        before = labels_now(panel)
        apply_corrections(host, panel)
        after = labels_now(panel)
        assert panel.logic.worker.parts[0].request()["seen"] == [[], [4], []]
        assert np.array_equal(after[0], shifted(before[0]))
        assert np.array_equal(after[1][4], before[1][4])
        proxy = panel.parameters.segmentationNode
        selected = ResultNodes(panel.parameters).selectedPhase()
        volumeNode = phases[selected].volumeNode
        shown_labels = dataclasses.replace(phases[selected], segmentationNode=proxy).labels(HEART)
        assert volumeNode is not None and np.array_equal(shown_labels, after[selected])
        panel.ui.undoCorrectionsButton.click()
        host.pump(0.5)
        assert all(np.array_equal(a, b) for a, b in zip(labels_now(panel), before, strict=True))

    def test_each_phase_keeps_its_own_segments_when_the_browser_moves_on(self, host, panel, asked):
        browserNode = add_cine_phantom(slicer.mrmlScene, 3)
        phases = segmented(host, panel, browserNode.GetMasterSequenceNode())
        following(host, panel)
        answer = panel.logic.worker.answer
        correct_by_hand(phases[1], 4)
        before = labels_now(panel)

        def moves_on(part):
            ResultNodes(panel.parameters).showPhase(2)
            return answer(part)

        panel.logic.worker.answer = moves_on
        apply_corrections(host, panel)
        after = labels_now(panel)
        for n in (0, 2):
            assert np.array_equal(after[n], shifted(before[n]))
        assert np.array_equal(labels_in_view(panel), after[2])
        ResultNodes(panel.parameters).showPhase(1)
        host.pump(0.2)
        panel.ui.undoCorrectionsButton.click()
        host.pump(0.5)
        assert asked == []
        assert all(np.array_equal(a, b) for a, b in zip(labels_now(panel), before, strict=True))
        assert np.array_equal(labels_in_view(panel), before[1])

    def test_a_model_that_is_gone_is_named(self, host, panel):
        (phase,) = segmented(host, panel)
        for segment in mrml.segments(phase.segmentationNode):
            segment.SetTag(ALGORITHM_NAME_TAG, "DINSegment mine")
        correct_by_hand(phase, 2)
        apply_corrections(host, panel)
        assert "The model 'mine', which made this result, is not there any more" in message(panel)
        assert panel.logic.worker.parts == []

    def test_under_another_transform_than_the_image_nothing_is_learned(self, host, panel):
        (phase,) = segmented(host, panel)
        correct_by_hand(phase, 2)
        transformNode = mrml.add_linear_transform(slicer.mrmlScene, np.diag([1.0, 1.0, 1.0, 1.0]))
        phase.volumeNode.SetAndObserveTransformNodeID(transformNode.GetID())
        apply_corrections(host, panel)
        assert "lie under different transforms" in message(panel)
        assert panel.logic.worker.parts == []


class TestNext:
    def test_it_goes_where_most_would_change_then_on_and_not_to_what_was_corrected(self, host, panel):
        def segmenter(volume, task, **options):
            made = mrml.threshold(volume, task, **options)
            places = [tuple((volume.ijk_to_ras @ (60, 60, k, 1))[:3]) for k in range(8)]
            first = (ToCorrect(6, 1, 0.5, places[6]), ToCorrect(3, 3, 2.5, places[3]), ToCorrect(5, 2, 1.5, places[5]))
            return dataclasses.replace(made, first=first)

        panel.logic.worker.segmenter = segmenter
        (phase,) = segmented(host, panel)
        went = []
        panel.correction.placeChosen.connect(went.append)
        panel.ui.nextCorrectionButton.click()
        assert message(panel) == "Slice 4, left ventricle: about 2.5 ml of it may be wrong."
        to_ijk = np.linalg.inv(mrml.ijk_to_ras(phase.volumeNode))
        np.testing.assert_allclose((to_ijk @ (*went[0], 1))[:3], (60, 60, 3), atol=0.01)
        correct_by_hand(phase, 5)
        panel.ui.nextCorrectionButton.click()
        assert message(panel) == "Slice 7, right ventricle: about 0.5 ml of it may be wrong."
        panel.ui.nextCorrectionButton.click()
        assert "no other slice" in message(panel)
        panel.ui.nextCorrectionButton.click()
        assert message(panel).startswith("Slice 4,")

    def test_it_goes_to_the_phases_in_which_something_looks_wrong_first(self, host, panel):
        def segmenter(volume, task, **options):
            made = mrml.threshold(volume, task, **options)
            phase = int(volume.name.split()[-1])
            place = tuple((volume.ijk_to_ras @ (60, 60, 3, 1))[:3])
            first = (ToCorrect(3, 3, float(phase), place),)
            if phase != 2:
                return dataclasses.replace(made, first=first)
            findings = (
                Finding("The LV is in two pieces.", place, 3, "LV: two pieces", "pieces"),
                Finding("The network is unsure of the LV in slice 4.", place, 3, "LV: unsure", "unsure", slices=(4,)),
                Finding("The image is no heart.", short="No heart"),
            )
            return dataclasses.replace(made, first=first, findings=findings)

        panel.logic.worker.segmenter = segmenter
        segmented(host, panel, add_cine_phantom(slicer.mrmlScene, phases=4).GetMasterSequenceNode())
        assert "Something looks wrong in phase 2 of 4: the result lists it" in message(panel)
        went, told = [], []
        panel.correction.placeChosen.connect(went.append)
        for _ in range(5):
            panel.ui.nextCorrectionButton.click()
            told.append((ResultNodes(panel.parameters).selectedPhase() + 1, message(panel), len(went)))
        assert told == [
            (2, "Phase 2: LV: two pieces.", 1),
            (2, "Phase 2: No heart.", 1),
            (2, "Phase 2, slice 4, left ventricle: about 2.0 ml of it may be wrong.", 2),
            (4, "Phase 4, slice 4, left ventricle: about 4.0 ml of it may be wrong.", 3),
            (3, "Phase 3, slice 4, left ventricle: about 3.0 ml of it may be wrong.", 4),
        ]


class TestTeach:
    def test_a_case_is_saved_after_a_question(self, host, panel, asked, tmp_path, monkeypatch):
        folder = tmp_path / "cases"
        folder.mkdir()
        monkeypatch.setattr(f"{SECTION}.ask_folder", lambda _title, _start="": folder)
        (phase,) = segmented(host, panel)
        correct_by_hand(phase, 4)
        panel.ui.saveCaseButton.click()
        assert "They stay on this computer" in asked[0]
        assert not panel.ui.saveCaseButton.enabled
        host.wait_until(lambda: panel.ui.saveCaseButton.enabled, 30)
        assert "Saved the training case" in message(panel)
        from dinsegment.training.cases import find_cases

        (case,) = find_cases(folder, None, HEART)
        volume, labels = case.read(HEART)
        assert np.array_equal(labels, labels_now(panel)[0])
        assert np.array_equal(volume.array, phase.image.array.astype(np.float32))
        assert json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["numTraining"] == 1

    def test_a_training_outlives_the_scene(self, host, panel, asked, tmp_path, monkeypatch):
        monkeypatch.setattr(f"{SECTION}.ask_folder", lambda _title, _start="": tmp_path)
        segmented(host, panel)

        def answer(_part):
            slicer.mrmlScene.Clear()
            return Adapted(tmp_path / "run", False, "It got no better.")

        panel.logic.worker.answer = answer
        panel.ui.adaptButton.click()
        host.wait_until(lambda: message(panel) == "It got no better.", 20)
        assert not panel.controller.busy

    def test_why_a_case_was_not_saved_is_said_whatever_it_was(self, host, panel, asked, tmp_path, monkeypatch):
        def fails(*_arguments):
            raise MemoryError("no room for it")

        monkeypatch.setattr(f"{SECTION}.ask_folder", lambda _title, _start="": tmp_path)
        monkeypatch.setattr(f"{SECTION}.save_case", fails)
        segmented(host, panel)
        panel.ui.saveCaseButton.click()
        host.wait_until(lambda: panel.ui.saveCaseButton.enabled, 30)
        assert "could not be saved: no room for it" in message(panel)

    def test_a_case_without_a_structure_is_refused(self, host, panel, asked):
        segmented(host, panel)
        panel.parameters.segmentationNode.GetSegmentation().RemoveSegment("Right ventricle")
        panel.ui.saveCaseButton.click()
        assert "these are missing: Right ventricle" in message(panel)
        assert asked == []

    def test_a_model_that_was_trained_is_offered_and_still_is_later(self, host, panel, asked, tmp_path, monkeypatch):
        from dinsegment.models.entries import find_entry, read_entries

        cases = tmp_path / "cases"
        cases.mkdir()
        monkeypatch.setattr(f"{SECTION}.ask_folder", lambda _title, _start="": cases)
        segmented(host, panel)

        def answer(part):
            run = tmp_path / "heart run"
            run.mkdir()
            entries = json.loads((tmp_path / "models" / "weights.json").read_text(encoding="utf-8"))["models"]
            mine = {**next(e for e in entries if e["task"] == "heart"), "name": "mine"}
            (run / "weights.json").write_text(json.dumps({"models": [mine]}), encoding="utf-8")
            assert part.request()["cases"] == str(cases)
            assert not (tmp_path / part.request()["output"]).exists()
            return Adapted(run, True, "It got better.")

        panel.logic.worker.answer = answer
        panel.ui.adaptButton.click()
        host.wait_until(lambda: not panel.controller.busy, 20)
        assert message(panel) == "It got better."
        combo = panel.ui.modelComboBox
        offered = combo.findData(str(tmp_path / "heart run"))
        assert offered >= 0 and combo.itemText(offered) == "mine"
        assert panel.parameters.model == ""  # Nobody has chosen it yet.
        assert find_entry(str(tmp_path / "heart run"), HEART).name == "mine"
        assert "mine" not in [entry.name for entry in read_entries()]
        # What it made is corrected with it, chosen or not.
        assert panel.model.named("mine") == str(tmp_path / "heart run")
        assert panel.model.named("heart-din-small") == "heart-din-small"
        (tmp_path / "heart run" / "weights.json").unlink()
        assert panel.model.named("mine") is None


class TestForReal:
    """The real worker: a heart, segmented, corrected in one slice, the rest, and back."""

    def test_the_corrected_slice_stays_and_undo_gives_all_back(self, host, worker, monkeypatch):
        panel = host.open_module("DINSegment")
        monkeypatch.setattr(panel.logic, "worker", worker)
        host.pump()
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        panel.ui.segmentHeartButton.click()
        host.wait_until(lambda: not panel.controller.busy, 180)
        host.pump(0.5)
        (phase,) = ResultNodes(panel.parameters).phases()
        correct_by_hand(phase, 4)
        (before,) = labels_now(panel)
        started = time.monotonic()
        apply_corrections_for_real(host, panel)
        assert time.monotonic() - started < 180
        (after,) = labels_now(panel)
        assert np.array_equal(after[4], before[4])
        assert message(panel)
        if panel.ui.undoCorrectionsButton.enabled:
            panel.ui.undoCorrectionsButton.click()
        assert np.array_equal(labels_now(panel)[0], before)


def apply_corrections_for_real(host, panel):
    panel.ui.applyCorrectionsButton.click()
    host.wait_until(lambda: not panel.controller.busy, 180)
    host.pump(0.5)
