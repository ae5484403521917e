from __future__ import annotations

import copy
import functools
import gc
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

# Processes that share the tests share the cores: threads of one would wait for those of the others.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from dinsegment.files import atomic_path
from dinsegment.images.segmentation import Segmentation
from dinsegment.inference import model
from dinsegment.phantom import ct, heart
from dinsegment.studies import overview
from dinsegment.training import curves

LONG = (
    "test_module.py",
    "test_cli.py",
    "test_cluster.py",
    "test_trainer.py",
    "test_hard_outputs.py",
    "test_study_seg.py",
    "test_adapting.py",
    "test_panel.py",
    "test_report_section.py",
    "test_views.py",
)
"""Files that take long. They come first: at the end, the other processes would have nothing to do."""

TINY_SEED = 1
"""Of weights with which a small network finds something in a phantom, and something else in another one."""


MOST_PHANTOMS = 48
"""Kept by each process: a heart has about 3 MB."""

MOST_MODELS = 4
"""The same: one has about 20 MB."""

MOST_PICTURES = 64
"""The same: one has up to 2 MB."""


def _made_once(make: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a phantom once, and gives copies of it for the same arguments: many tests look at the same one."""
    made: dict[str, Any] = {}

    @functools.wraps(make)
    def phantom(*arguments: Any, **options: Any) -> Any:
        key = repr((arguments, sorted(options.items())))
        if phantom.anew or key not in made:
            made[key] = make(*arguments, **options)
        made[key] = made.pop(key)  # The one that was asked for last is the last to go.
        while len(made) > MOST_PHANTOMS:
            del made[next(iter(made))]
        return copy.deepcopy(made[key])

    phantom.anew = False
    return phantom


def _built_once(build: Callable[..., Any]) -> Callable[..., Any]:
    """Builds a model once from the same entry and weights: many tests load one that ships, none changes its weights."""
    built: dict[tuple[str, ...], Any] = {}

    @functools.wraps(build)
    def build_model(entry: Any, weights: dict[str, Any]) -> Any:
        digest = hashlib.sha256()
        for name, tensor in weights.items():
            digest.update(name.encode())
            digest.update(tensor.numpy())
        key = repr(entry), digest.hexdigest()
        if key not in built:
            if len(built) >= MOST_MODELS:
                del built[next(iter(built))]
            built[key] = build(entry, weights)
        return built[key]

    return build_model


def _drawn_once(write: Callable[..., None], what_is_shown: Callable[..., bytes]) -> Callable[..., None]:
    """Draws a picture once, and writes it anew where it would show the same: many tests look at what is beside it."""
    drawn: dict[bytes, bytes] = {}

    @functools.wraps(write)
    def write_picture(shown: Any, path: Path, *words: str) -> None:
        key = what_is_shown(shown, *words)
        if key in drawn:
            with atomic_path(path) as temporary:
                temporary.write_bytes(drawn[key])
        else:
            write(shown, path, *words)
            drawn[key] = path.read_bytes()
        drawn[key] = drawn.pop(key)
        while len(drawn) > MOST_PICTURES:
            del drawn[next(iter(drawn))]

    return write_picture


def _of_a_training(history: Sequence[dict[str, float]], *words: str) -> bytes:
    """What the picture of a training is drawn of: not of how long it took."""
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in history]
    return repr((rows, words)).encode()


def _of_a_result(segmentation: Segmentation) -> bytes:
    """A digest of what the picture of a result is drawn of."""
    volume, enhanced = segmentation.volume, segmentation.enhanced
    arrays = (volume.array, volume.ijk_to_ras, segmentation.labels, enhanced.array, enhanced.ijk_to_ras)
    words = (volume.name, volume.slice_axis, enhanced.slice_axis, segmentation.task, segmentation.model)
    digest = hashlib.sha256(repr((words, [(array.shape, array.dtype) for array in arrays])).encode())
    for array in arrays:
        digest.update(array.tobytes())
    return digest.digest()


# Before anything has taken them by name.
model.build_model = _built_once(model.build_model)
heart.heart_phantom = _made_once(heart.heart_phantom)
ct.abdomen_phantom = _made_once(ct.abdomen_phantom)
overview.write_overview = _drawn_once(overview.write_overview, _of_a_result)
curves.write_curves = _drawn_once(curves.write_curves, _of_a_training)


@pytest.fixture
def phantoms_anew(monkeypatch):
    """For tests of the phantoms themselves."""
    for make in (heart.heart_phantom, ct.abdomen_phantom):
        monkeypatch.setattr(make, "anew", True)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # That would sort files by the number of their tests.


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector, which would look at all of it again and again, need not.

    Nor is it asked at every 700 new objects: a DICOM study has hundreds of thousands, none of which goes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 10)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The reference images, no part of the repository: DINSEGMENT_DATA, or shared/data beside it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("DINSEGMENT_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"The reference images are missing: there is no folder '{folder}' (set DINSEGMENT_DATA).")
    return folder


def _part(data_folder: Path, name: str) -> Path:
    folder = data_folder / name
    if not folder.is_dir():
        pytest.skip(f"Reference images are missing: there is no folder '{folder}'.")
    return folder


@pytest.fixture(scope="session")
def acdc_folder(data_folder):
    """100 cardiac cine MR patients as NIfTI, a frame at end diastole and one at end systole each."""
    return _part(data_folder, "acdc")


@pytest.fixture(scope="session")
def btcv_folder(data_folder):
    """24 abdominal CTs with 13 organs, as reduced copies."""
    return _part(data_folder, "btcv")


@pytest.fixture(scope="session")
def sunnybrook_folder(data_folder):
    """An oblique short-axis cine MR series: 12 slices x 20 phases."""
    return _part(data_folder, "dicom/cine-mr-sunnybrook")


@pytest.fixture(scope="session")
def totalsegmentator_folder(data_folder):
    """20 CT slices as JPEG 2000, 2 mm apart and 3 mm thick, with a segmentation of them as NIfTI."""
    return _part(data_folder, "dicom/ct-totalsegmentator")


@pytest.fixture(scope="session")
def dcmqi_folder(data_folder):
    """Three CT slices and a DICOM SEG of them in one folder."""
    return _part(data_folder, "dicom/ct-3slice-dcmqi")


@pytest.fixture(scope="module")
def one_thread():
    """Small networks spend their time waiting for threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_network():
    """A small untrained network of the kind of the heart's model, and its options."""
    import torch

    from dinsegment.models.entries import find_entry
    from dinsegment.network import build_network
    from dinsegment.tasks import HEART

    small = {"dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "heads": (1, 1, 1, 1), "decoder_dim": 8}
    options = {**find_entry(None, HEART).network, **small}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(TINY_SEED)
        return build_network(options).eval(), options


@pytest.fixture(scope="session")
def tiny_model(tiny_network):
    """The heart's model with a small untrained network: for tests of what is around a network, whatever it finds."""
    from dataclasses import replace

    from dinsegment.inference.model import load_model
    from dinsegment.network.rewriting import for_inference
    from dinsegment.tasks import HEART

    return replace(load_model(None, HEART), network=for_inference(copy.deepcopy(tiny_network[0])))


@pytest.fixture(scope="session")
def tiny_models(tiny_network, tmp_path_factory):
    """For DINSEGMENT_MODELS: the models that ship, but of the heart's the small untrained network, and no other's."""
    from safetensors.torch import save

    from dinsegment.models.entries import find_entry, models_list
    from dinsegment.tasks import HEART

    folder = tmp_path_factory.mktemp("tiny_models")
    network, options = tiny_network
    content = save({name: tensor.clone() for name, tensor in network.state_dict().items()})
    (folder / "tiny.safetensors").write_bytes(content)
    listed = json.loads(models_list().read_text(encoding="utf-8"))
    (heart,) = (entry for entry in listed["models"] if entry["name"] == find_entry(None, HEART).name)
    weights = {"file": "tiny.safetensors", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    heart |= {"network": options, "weights": weights}
    (folder / "weights.json").write_text(json.dumps(listed), encoding="utf-8")
    return folder


@functools.cache
def _program() -> Any:
    """The program's commands with their options, which Typer would read anew from all signatures in every run."""
    import typer

    from dinsegment import cli

    return typer.main.get_command(cli.app)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the program in this process; gives its exit code, what it printed, and what it printed as errors."""

    from dinsegment import cli, cli_console

    monkeypatch.setattr(cli, "app", _program())

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dinsegment", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "400")
        # Where COLUMNS was set before they were made, they keep to that.
        for console in (cli_console.out, cli_console.err):
            monkeypatch.setattr(console, "width", 400)
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
