"""What pictures of a study show, told by their headers, by how many there are of a slice, and by where they lie."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from dinsegment.dicom.read.picture import Picture
from dinsegment.dicom.read.stack import (
    AXIAL_CINE,
    AXIAL_CT,
    CINE,
    CORONAL_CT,
    CT_OVER_TIME,
    CT_PROJECTION,
    FLOW,
    INVERSION_SCOUT,
    LATE_ENHANCEMENT,
    LOCALIZER,
    LONG_AXIS_CINE,
    MR,
    OBLIQUE_CT,
    OTHER,
    PERFUSION,
    PHASE_IMAGES,
    SAGITTAL_CT,
    SHORT_AXIS,
    SHORT_AXIS_CINE,
    T1_MAP,
    T2_MAP,
    TAGGING,
)

LEFT_VENTRICLE_AXIS = np.array([0.65, -0.6, -0.46])
"""From the base to the apex of most hearts, in LPS: to the left, the front and the feet."""

NEAR_AXIS_DEGREES = 52.0
"""Hearts lie steeper or flatter than most, but no short axis is further from the usual one."""

PARALLEL_DEGREES = 20.0
"""Slices that lean less against others, or against a plane of the body, look the same way."""

LEAST_SLICES = 3
"""Of fewer slices no volume of a ventricle can be told."""

MANY_INVERSIONS = 12
"""Inversion times of a slice from which on they are a scout for the best one; a T1 map takes fewer."""

LEAST_MOVEMENT_MS = 100.0
"""Images of a slice show a movement if they are further apart in the beat."""

LONG_PHASE_MS = 250.0
"""Images that are further apart in time are of a heartbeat each."""

MANY_IMAGES = 10
"""So many images of a slice may show contrast agent arrive."""

MOST_STILL = 4
"""So many images of a slice after an inversion are measurements, not phases."""

LEAST_BEATS_S = 12.0
"""A slice that was looked at for longer shows contrast agent arrive, not a beat."""

_WORDS = {
    INVERSION_SCOUT: r"ti ?scouts?|tiscout|look ?locker|inversion scout",
    T1_MAP: r"t1 ?maps?|t1 ?mapping|\w*molli\w*|sasha|ecv|t1 ?moco",
    T2_MAP: r"t2 ?maps?|t2 ?mapping|t2 ?star\w*|t2 ?moco|t2s",
    FLOW: r"\w*flow(?! ?comp)|venc ?\d*|phase ?contrast|pc ?mri?|pca|\w*v\d{2,3}(in|ap|rl|fh|through)?",
    TAGGING: r"tag|tags|tagged|tagging|c?spamm|grid ?tag\w*",
    LATE_ENHANCEMENT: r"lge|late ?(gad|gd|enh)\w*|delayed\w*|dhe|mde|\w*psir\w*|viab\w*",
    PERFUSION: r"perf\w*|first ?pass",
    LOCALIZER: r"\w*locali[sz]ers?|loc|scouts?|survey|topogram|surview|3 ?plane",
}
"""Words of a series' description or sequence, all that is no letter or digit taken as a space; in this order."""

_CINE_WORDS = r"\w*cine|\w*cini|kine|zine"
_SHORT_WORDS = r"sax|sa|short ?axis|short ?ax|kurze ?achse|ka|petit ?axe|eje ?corto|asse ?corto"
_LONG_WORDS = (
    r"lax|la|long ?axis|[234] ?ch|[234] ?chamber|[234] ?kammer\w*|[234] ?cv|[234]cav\w*|hla|vla|lvot|rvot|"
    r"grand ?axe|lange ?achse"
)

_FLOW_TYPES = {"VELOCITY", "VELOCITY MAP", "FLOW_ENCODED", "PHASE CONTRAST", "M_PCA", "P_PCA", "PCA"}
_PROJECTIONS = {"PROJECTION IMAGE", "MIP", "MINIP", "MNIP", "AVERAGE", "MAXIMUM", "VRT", "CSA MIP"}


def words_of(pictures: Sequence[Picture]) -> str:
    """What the pictures are called: small letters and digits with a space between words and around all."""
    names = dict.fromkeys(f"{one.description} {one.sequence_name}" for one in pictures)
    return " " + re.sub(r"[^a-z0-9]+", " ", " ".join(names).lower()).strip() + " "


def says(words: str, pattern: str) -> bool:
    """Whether a pattern stands among words as whole words."""
    return re.search(rf" (?:{pattern}) ", words) is not None


def is_localizer(picture: Picture) -> bool:
    """Whether a picture says of itself that others were planned on it."""
    words = words_of([picture])
    return "LOCALIZER" in picture.image_type or (
        says(words, _WORDS[LOCALIZER]) and not says(words, _WORDS[INVERSION_SCOUT])
    )


def header_kind(slices: Sequence[Sequence[Picture]], directions: int) -> str:
    """What pictures of one series show, as far as their headers and numbers tell.

    Args:
        slices: Alike, parallel pictures, those of each slice together.
        directions: In how many directions slices of the series lie.

    Returns:
        A kind; `CINE` for what has phases and `MR` for what has none where nothing else is told.
    """
    pictures = [one for images in slices for one in images]
    first, words, most = pictures[0], words_of(pictures[:1]), max(map(len, slices))
    if first.modality == "CT":
        return _ct_kind(pictures, words, most)
    if first.modality != "MR":
        return LOCALIZER if "LOCALIZER" in first.image_type else OTHER
    if any("LOCALIZER" in one.image_type for one in pictures):
        return LOCALIZER
    inversions = max(len({one.inversion_time for one in images}) for images in slices)
    echoes = max(len({one.echo_time for one in images}) for images in slices)
    types = set(first.image_type)
    if inversions >= MANY_INVERSIONS:
        return INVERSION_SCOUT
    if inversions >= LEAST_SLICES or types & {"T1", "T1 MAP", "T1_MAP"}:
        return T1_MAP
    if types & {"T2", "T2 MAP", "T2_MAP", "T2_STAR_MAP", "T2*"} or (echoes >= LEAST_SLICES and most < 2 * echoes):
        return T2_MAP
    if types & _FLOW_TYPES:
        return FLOW
    told = next((kind for kind, pattern in _WORDS.items() if says(words, pattern)), "")
    if told == LATE_ENHANCEMENT and most > MOST_STILL:  # a cine after contrast agent
        told = ""
    if (
        told in (PERFUSION, T1_MAP, T2_MAP) and most > MOST_STILL and says(words, _CINE_WORDS)
    ):  # a cine after one of these
        told = ""
    if told == LOCALIZER and most >= 8:  # no localizer moves
        told = ""
    if told:
        return told
    if first.component == "phase":
        return PHASE_IMAGES
    if _is_perfusion(slices):
        return PERFUSION
    inverted = first.inversion_time is not None and "IR" in first.sequence and "SE" not in first.sequence
    if inverted and most <= MOST_STILL:
        return LATE_ENHANCEMENT
    if most > 1:
        return OTHER if _is_still(slices) else CINE
    return LOCALIZER if directions > 1 else MR


def _is_perfusion(slices: Sequence[Sequence[Picture]]) -> bool:
    """Whether each picture of a slice was taken in another heartbeat.

    The clock runs on and the heart's time does not, or that runs on as no beat does; without a clock, many pictures of
    one moment of the beat are taken for it.
    """
    images = max(slices, key=len)
    if len(images) < MANY_IMAGES:
        return False
    heart = [one.heart_time_ms for one in images if one.heart_time_ms is not None]
    if len(heart) == len(images) and float(np.median(np.diff(sorted(heart)))) >= LONG_PHASE_MS:
        return True
    clock = [one.acquired for one in images if one.acquired is not None]
    if len(clock) < len(images):
        return _is_still(slices)
    lasted = max(clock) - min(clock)
    beats = not heart or max(heart) - min(heart) < LEAST_MOVEMENT_MS or max(heart) > 2500
    return len(set(clock)) > 0.8 * len(clock) and lasted > max(LEAST_BEATS_S, 0.3 * len(images)) and beats


def _is_still(slices: Sequence[Sequence[Picture]]) -> bool:
    """Whether the pictures of each slice are of one moment of the beat.

    False where nothing says when, or where one value that stands in all of many pictures says nothing.
    """
    times = [[one.heart_time_ms for one in images] for images in slices if len(images) > 1]
    if any(None in heart for heart in times):
        return False
    values = {time for heart in times for time in heart}
    if values == {0.0} or (len(values) == 1 and max(map(len, times)) >= MANY_IMAGES):
        return False
    return all(max(heart) - min(heart) < LEAST_MOVEMENT_MS for heart in times)


def _ct_kind(pictures: Sequence[Picture], words: str, most: int) -> str:
    first = pictures[0]
    if any("LOCALIZER" in one.image_type for one in pictures) or says(words, r"topogram|scouts?|surview|scanogram"):
        return LOCALIZER
    if set(first.image_type) & _PROJECTIONS or says(words, r"mip|minip|vrt"):
        return CT_PROJECTION
    if most > 1:
        return CT_OVER_TIME
    normal = np.cross(*first.axes)
    for axis, kind in ((2, AXIAL_CT), (1, CORONAL_CT), (0, SAGITTAL_CT)):
        if degrees(normal, np.eye(3)[axis]) <= PARALLEL_DEGREES:
            return kind
    return OBLIQUE_CT


def degrees(one: np.ndarray, other: np.ndarray) -> float:
    """Angle between two lines, 0 to 90."""
    cosine = abs(float(one @ other)) / (float(np.linalg.norm(one)) * float(np.linalg.norm(other)))
    return math.degrees(math.acos(min(cosine, 1.0)))


def view(normal: np.ndarray, slices: int, words: str, short_axis: np.ndarray | None, moves: bool) -> str:
    """Along which axis of the heart slices lie.

    Args:
        normal: Of the slices, LPS.
        slices: How many.
        words: What they are called, as `words_of`.
        short_axis: Normal of the short-axis stack of the study; None while it is not known.
        moves: Whether they have phases.

    Returns:
        A kind; `CINE` or `MR` where that cannot be told.
    """
    short, unknown = (SHORT_AXIS_CINE, CINE) if moves else (SHORT_AXIS, MR)
    if short_axis is not None:
        if degrees(normal, short_axis) <= PARALLEL_DEGREES:
            return short
    elif slices >= LEAST_SLICES or not says(words, _LONG_WORDS):
        called_short, called_long = says(words, _SHORT_WORDS), says(words, _LONG_WORDS)
        near = degrees(normal, LEFT_VENTRICLE_AXIS) <= NEAR_AXIS_DEGREES
        if (called_short and not called_long) or (near and not called_long):
            return short
    if not moves:
        return unknown
    if degrees(normal, np.eye(3)[2]) <= PARALLEL_DEGREES:
        return AXIAL_CINE
    return LONG_AXIS_CINE if slices < LEAST_SLICES or says(words, _LONG_WORDS) or short_axis is not None else unknown
