"""A heart as most scanners store it, each slice of the stack a series of its own, with what lies beside it."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid
from test_sequences import add_sequence

from dinsegment.phantom.heart import cine_phantom
from dinsegment_slicer.dicom.phantom import write_cine_study

SLICES, PHASES = 5, 4
GRID = {"slices": SLICES, "size": (40, 48), "spacing": (16.0, 4.5, 4.0)}


@functools.cache
def heart(phases=PHASES):
    """Volumes of whole numbers, as a scanner writes them."""
    made = [phantom.volume for phantom in cine_phantom(phases, **GRID)]
    return [dataclasses.replace(volume, array=np.rint(volume.array)) for volume in made]


def write_study(folder, scene, phases=PHASES):
    """Voxels (k, j, i) and IJK-to-RAS of each phase, and the Series Instance UIDs of the slices in the order of k."""
    sequenceNode = add_sequence(scene, heart(phases))
    uids = write_cine_study(folder, sequenceNode)
    scene.RemoveNode(sequenceNode)
    return [(volume.array.astype(np.int16), volume.ijk_to_ras) for volume in heart(phases)], uids


def change(folder, series=None, **attributes):
    """Sets attributes of all files of some series (by their number; all by default); a function gets the image."""
    for path in sorted(Path(folder).rglob("*.dcm")):
        image = pydicom.dcmread(path)
        if series is None or image.SeriesNumber in series:
            for keyword, value in attributes.items():
                setattr(image, keyword, value(image) if callable(value) else value)
            image.save_as(path)


def copy_series(folder, number, new, **attributes):
    """Adds a series like another one, with instances of its own; its UID."""
    uid, target = generate_uid(), Path(folder) / str(new)
    target.mkdir()
    for path in sorted((Path(folder) / str(number)).iterdir()):
        image = pydicom.dcmread(path)
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.SeriesInstanceUID, image.SeriesNumber = uid, new
        image.save_as(target / path.name)
    change(folder, [new], **attributes)
    return str(uid)


def import_study(database, folder):
    """As the DICOM module imports a folder."""
    database.prepareInsert()
    for path in sorted(Path(folder).rglob("*.dcm")):
        database.insert(str(path))
    database.updateDisplayedFields()
