"""All that the segmentations of one study measure, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dinsegment.dicom.read.patient import Patient
from dinsegment.images.segmentation import Segmentation
from dinsegment.measurements.body import SurfaceFormula, body_surface_area
from dinsegment.measurements.function import Beat, CardiacFunction, Ventricle, beat_of, outliers, right_ventricle_of
from dinsegment.measurements.heart import heart_measurements
from dinsegment.measurements.infarct import SEVERAL, infarct_measurements, no_infarct_size
from dinsegment.measurements.measurement import Measurement
from dinsegment.measurements.normals import with_normal_values, with_remarks
from dinsegment.measurements.organs import has_contrast, organ_measurements
from dinsegment.measurements.rates import Rates, rates_or_reason
from dinsegment.measurements.volumes import segment_volumes
from dinsegment.measurements.walls import Walls, walls_of


@dataclass(frozen=True)
class MeasureOptions:
    """What the user knows of the patient and how numbers are to be made.

    Attributes:
        patient: Goes before what the images say, each value that is not None.
        surface_formula: For body surface area.
        anterior: Where the septum's anterior end is, in mm in RAS; see `walls.walls_of`.
    """

    patient: Patient = field(default_factory=Patient)
    surface_formula: SurfaceFormula = "mosteller"
    anterior: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class StudyMeasurements:
    """What one study measures.

    Attributes:
        patient: What is known of the patient.
        measurements: All numbers, and why those that are missing are.
        beat: The left ventricle in all phases; None for a task in which nothing beats.
        right: The right ventricle; None where it was not segmented.
        walls: The left ventricle's wall; None for a single phase and a task in which nothing beats.
        times_ms: When each phase was taken; None where the images do not say it.
        surface_m2: Body surface area; None where height or weight is not known.
        function: Of the left ventricle; None for a single phase, and where `no_function` says why.
        rates: The smoothed curve of its volume; None where the phases tell none.
        contrast: Whether contrast agent was given to a CT; None where nobody can say.
        surface_formula: That of the body surface area.
    """

    patient: Patient
    measurements: tuple[Measurement, ...]
    beat: Beat | None = None
    right: Ventricle | None = None
    walls: Walls | None = None
    times_ms: tuple[float, ...] | None = None
    surface_m2: float | None = None
    function: CardiacFunction | None = None
    rates: Rates | None = None
    contrast: bool | None = None
    surface_formula: SurfaceFormula = "mosteller"

    @property
    def no_function(self) -> str:
        """Why there is no function, a sentence; empty where there is one or nobody expects it."""
        return self.beat.reason if self.beat else ""

    def value(self, key: str) -> float | None:
        """A measured number by its key; None where it is missing."""
        return next((m.value for m in self.measurements if m.key == key), None)


def measure_study(phases: Sequence[Segmentation], options: MeasureOptions | None = None) -> StudyMeasurements:
    """Measures the phases of one heart beat, or a single image.

    Args:
        phases: One at least, of one task and on one grid.
        options: What the user knows; nothing if None.
    """
    options = options or MeasureOptions()
    task = phases[0].task
    patient = known_of(options.patient, phases[0].volume.patient)
    surface = None
    if patient.height_m is not None and patient.weight_kg is not None:
        surface = body_surface_area(patient.height_m, patient.weight_kg, options.surface_formula)
    if len(phases) == 1:
        found = organ_measurements(phases[0], segment_volumes(phases[0]))
        found += infarct_measurements(phases[0], options.anterior)
        contrast = has_contrast(phases[0], found)
        return StudyMeasurements(
            patient, tuple(with_remarks(found, task, contrast)), beat_of(phases), surface_m2=surface, contrast=contrast
        )
    beat, right = beat_of(phases), right_ventricle_of(phases)
    if beat is None:
        found = no_infarct_size(task.wall, SEVERAL) if task.wall else ()
        return StudyMeasurements(patient, found, surface_m2=surface)
    times = tuple(phase.volume.time_ms for phase in phases)
    times_ms = None if None in times else times
    function = beat.function
    rates = _rates(beat, times_ms, patient) if function else beat.reason
    found = heart_measurements(task, beat, right, patient, rates, options.surface_formula)
    if function is None:
        walls = Walls(reason=beat.reason)
    else:
        ed, es = function.end_diastole, function.end_systole
        walls = walls_of(phases[ed], phases[es], (ed, es), options.anterior)
        found += walls.measurements((task.muscle, task.chamber))
    return StudyMeasurements(
        patient,
        tuple(with_normal_values(with_remarks(found, task), patient)),
        beat,
        right,
        walls,
        times_ms,
        surface,
        function,
        rates if isinstance(rates, Rates) else None,
        surface_formula=options.surface_formula,
    )


def _rates(beat: Beat, times_ms: tuple[float, ...] | None, patient: Patient) -> Rates | str:
    """Of the left ventricle; a phase that its neighbours contradict would be the steepest place of the curve."""
    odd = outliers(beat.chamber_ml)
    if odd:
        return f"The left ventricle of phase {odd[0] + 1} does not go with those of the phases before and after."
    return rates_or_reason(times_ms, beat.chamber_ml, patient.heart_rate_bpm)


def known_of(said: Patient, read: Patient | None) -> Patient:
    """What the user says of the patient, and what the images do where the user says nothing."""
    read = read or Patient()
    return Patient(
        **{
            name: value if (value := getattr(said, name)) is not None else getattr(read, name)
            for name in ("sex", "age_years", "height_m", "weight_kg", "heart_rate_bpm")
        },
        wrong=read.wrong,
    )
