"""DICOM Parametric Map: a number for each voxel of a DICOM series, such as where samples of a segmentation disagree.

What is written (DICOM PS3.3 A.75, C.8.32) has a frame for each source slice, on its pixels, in single precision and
uncompressed; a real-world value mapping says what the numbers are.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
from highdicom.pm import ParametricMap, RealWorldValueMapping
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dinsegment.dicom.codes import NO_UNITS, to_concept
from dinsegment.dicom.uids import NewUids
from dinsegment.dicom.write.place import placement
from dinsegment.dicom.write.save import MANUFACTURER, save_dicom, warnings_off
from dinsegment.dicom.write.seg import SegOptions
from dinsegment.dicom.write.source import UTF8, PreparedSource
from dinsegment.errors import InputError
from dinsegment.images.segmentation import Segmentation
from dinsegment.version import __version__

DESCRIPTION = "Probability of another label"

DEFAULTS = SegOptions()

SERIES_STEP = 4
"""Numbers from the series of the DICOM SEG to that of the map."""


def write_disagreement(segmentation: Segmentation, path: Path, options: SegOptions = DEFAULTS) -> Dataset:
    """Writes where the samples of a volume that was read from DICOM disagree, as a series of its own.

    Args:
        segmentation: With samples.
        path: The file.
        options: Those of its DICOM SEG; the series is new, and its number four higher.

    Raises:
        InputError: The volume was not read from DICOM, or no DICOM can refer to such images.
        OutputError: As `save.save_dicom`.
    """
    volume, samples = segmentation.volume, segmentation.samples
    if volume.dicom is None or samples is None:
        raise InputError(f"'{volume.name}' has no samples, or was not read from DICOM, which a map refers to.")
    with warnings_off():
        prepared = PreparedSource(volume.dicom)
        where = placement(prepared.planes, volume.ijk_to_ras, volume.shape)
        prepared.place(where.largest)
        frames = where.on_images(samples.disagreement)
        made = _encoded(frames, prepared, options)
        prepared.refer_whole(made)
    made.SpecificCharacterSet = UTF8
    made.Laterality = None  # not of one side of the body
    save_dicom(made, path)
    return made


def _encoded(frames: np.ndarray, prepared: PreparedSource, options: SegOptions) -> ParametricMap:
    uids, now = NewUids(options.uid_root, None), datetime.datetime.now()
    meaning = RealWorldValueMapping(
        lut_label="disagreement",
        lut_explanation=DESCRIPTION,
        unit=to_concept(NO_UNITS),
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
    )
    first = prepared.headers[0]
    try:
        return ParametricMap(
            source_images=prepared.headers,
            pixel_array=np.ascontiguousarray(frames, np.float32),
            series_instance_uid=options.series_uid or uids("map series"),
            series_number=options.series_number + SERIES_STEP,
            sop_instance_uid=uids("map"),
            instance_number=options.instance_number,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            software_versions=__version__,
            device_serial_number="0",
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[meaning],
            window_center=0.5,
            window_width=1.0,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            content_description=options.description or DESCRIPTION,
            content_creator_name=options.content_creator,
            content_label="DISAGREEMENT",
            series_description=DESCRIPTION,
            content_date=now.date(),
            content_time=now.time(),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"No DICOM map can be made from the series {first.SeriesInstanceUID} of {first.SOPClassUID.name}: {error}"
        ) from error
