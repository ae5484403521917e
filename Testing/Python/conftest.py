from __future__ import annotations

import pickle

import pytest


@pytest.fixture(scope="module")
def original(request, sunnybrook_folder):
    """Images of a cine by slice and phase, of those phases that the file's PHASES names. They are not changed."""
    import cine_study

    return cine_study.read_cine(sunnybrook_folder, phases=request.module.PHASES)


@pytest.fixture(scope="module")
def kept(original):
    """The same as bytes, of which a copy is made in half the time that `deepcopy` takes."""
    return pickle.dumps(original, pickle.HIGHEST_PROTOCOL)


@pytest.fixture
def rows(kept):
    """The same, to be changed."""
    return pickle.loads(kept)


@pytest.fixture(scope="module")
def study(original, tmp_path_factory):
    """A folder with a study of many series that is made of them."""
    import cine_study

    return cine_study.write(cine_study.study_of(cine_study.a_copy(original)), tmp_path_factory.mktemp("study"))
