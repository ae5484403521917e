"""weights.json and the weights beside it: the right ones are loaded, and nothing else is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import Hub, forget_settings
from safetensors.torch import save

import dinsegment
from dinsegment.errors import Cancelled, ModelError
from dinsegment.images.volume import Volume
from dinsegment.inference import segment
from dinsegment.inference.model import load_model
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.models.entries import MODELS_VARIABLE, find_entry, models_folder, models_list, read_entries
from dinsegment.models.settings import WeightsSettings
from dinsegment.models.weights import is_available, read_weights
from dinsegment.network import DIN, DINConfig, rewrite
from dinsegment.tasks import HEART, TASKS, get_task

SHIPPED = Path(dinsegment.__file__).parents[2] / "Resources" / "Models"
REVISION = "0123456789abcdef0123456789abcdef01234567"
CONFIG = DINConfig(dims=(4, 8, 8, 8), depths=(1, 1, 1, 1), heads=(1, 2, 2, 2), window=4, decoder_dim=8)
PREPROCESSING = Preprocessing(spacing=1.7, box=48, percentiles=(1.0, 99.0))


def entry(name="heart-tiny", **changes):
    return {
        "name": name,
        "task": "heart",
        "description": "A tiny one.",
        "network": CONFIG.to_dict(),
        "preprocessing": PREPROCESSING.to_dict(),
        "weights": {"file": f"{name}.safetensors"},
        "license": "CC0-1.0",
        "data": {"name": "none", "license": "none", "citation": "none", "split": "none"},
        **changes,
    }


def publish(folder, network, *entries, dtype=torch.float32):
    """The weights of a network under every entry's file name, and weights.json."""
    weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in network.state_dict().items()}
    content = save({k: v.clone() for k, v in weights.items()})
    for one in entries:
        (folder / one["weights"]["file"]).write_bytes(content)
        one["weights"] |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "weights.json").write_text(json.dumps({"models": entries}), encoding="utf-8")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return DIN(CONFIG).eval()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, so that nothing that this machine happens to have is found."""
    forget_settings(monkeypatch)
    monkeypatch.setenv("DINSEGMENT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path, network):
    publish(tmp_path, network, entry(), entry("heart-second", description="Another."))
    return tmp_path


def sentence(function, *arguments):
    """What the ModelError of the call tells the user, in one line."""
    with pytest.raises(ModelError) as caught:
        function(*arguments)
    text = str(caught.value)
    assert text and "\n" not in text and text.endswith(".") and len(text) < 300
    return text


def test_the_model_that_was_saved_is_loaded(folder, network):
    model = load_model("heart-tiny", HEART, folder)
    assert (model.name, model.task, model.preprocessing) == ("heart-tiny", "heart", PREPROCESSING)
    assert model.network.config == CONFIG
    image, enhanced = torch.randn(2, 2, 1, 24, 20)
    with torch.no_grad():
        torch.testing.assert_close(model.network(image, enhanced), network(image, enhanced))
    assert not model.network.training and not any(p.requires_grad for p in model.network.parameters())
    model.check_task(HEART)


def test_half_precision_weights_compute_in_single_precision(tmp_path, network):
    publish(tmp_path, network, entry(), dtype=torch.float16)
    model = load_model(None, HEART, tmp_path)
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    image, enhanced = torch.randn(2, 1, 1, 16, 16)
    with torch.no_grad():
        expected, got = network(image, enhanced), model.network(image, enhanced)
    torch.testing.assert_close(got, expected, rtol=0.02, atol=0.02)


def test_the_loaded_model_outlives_its_file(folder, network):
    """A file on a network drive may go away while the model is used."""
    model = load_model("heart-tiny", HEART, folder)
    (folder / "heart-tiny.safetensors").write_bytes(b"")
    for got, expected in zip(model.network.parameters(), rewrite(network).parameters(), strict=True):
        assert got.equal(expected)


def test_one_encoder_for_both_images_is_still_one_after_loading(tmp_path):
    config = replace(CONFIG, shared_encoder=True)
    torch.manual_seed(1)
    shared = DIN(config).eval()
    publish(tmp_path, shared, entry(network=config.to_dict()))
    model = load_model(None, HEART, tmp_path)
    assert model.network.encoder_i is model.network.encoder_e
    image, enhanced = torch.randn(2, 1, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model.network(image, enhanced), shared(image, enhanced))


def test_entries_come_in_the_order_of_the_file_and_the_first_is_the_default(folder):
    assert [e.name for e in read_entries(folder)] == ["heart-tiny", "heart-second"]
    assert find_entry(None, HEART, folder).name == "heart-tiny"
    assert find_entry("heart-second", HEART, folder).description == "Another."
    assert load_model(None, HEART, folder).name == "heart-tiny"


def test_the_default_is_the_first_of_the_task(tmp_path, network):
    publish(tmp_path, network, entry("other", task="abdomen-2"), entry())
    assert find_entry(None, HEART, tmp_path).name == "heart-tiny"


def test_in_a_checkout_the_list_stands_at_the_top(monkeypatch):
    monkeypatch.delenv(MODELS_VARIABLE, raising=False)
    assert models_list() == SHIPPED.parents[2] / "weights.json" and models_list().is_file()
    assert {e.name for e in read_entries()} == {e.name for e in read_entries(SHIPPED)}
    assert not (SHIPPED / "weights.json").exists()  # one list, not two


def test_in_a_wheel_the_list_lies_beside_the_weights(tmp_path):
    """A wheel of this tree, built and unpacked, in a Python that sees nothing else of it."""
    pytest.importorskip("hatchling")
    root = SHIPPED.parents[2]
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import dinsegment;"
        "from dinsegment.models.entries import find_entry, models_list;"
        "from dinsegment.models.weights import provide_weights;"
        "assert Path(dinsegment.__file__).is_relative_to(sys.argv[1]);"
        "print(models_list()); provide_weights(find_entry(None, None))"
    )
    environment = {k: v for k, v in os.environ.items() if k not in (MODELS_VARIABLE, "PYTHONPATH")}
    command = [sys.executable, "-I", "-c", code, str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == tmp_path / "site" / "dinsegment" / "Resources" / "Models" / "weights.json"


def test_an_environment_variable_names_the_folder(folder, monkeypatch):
    monkeypatch.delenv(MODELS_VARIABLE, raising=False)
    shipped = models_folder()
    assert shipped.parts[-2:] == ("Resources", "Models")
    monkeypatch.setenv(MODELS_VARIABLE, str(folder))
    assert models_folder() == folder and load_model("heart-second", HEART).name == "heart-second"


def test_a_folder_does_not_take_the_place_of_a_name(folder, network, tmp_path, monkeypatch):
    monkeypatch.setenv(MODELS_VARIABLE, str(folder))
    run = tmp_path / "here" / "heart-second"
    run.mkdir(parents=True)
    publish(run, network, entry("heart-second-1a2b3c4d"))
    monkeypatch.chdir(tmp_path / "here")
    assert load_model("heart-second", HEART).name == "heart-second"
    assert load_model("./heart-second", HEART).name == "heart-second-1a2b3c4d"
    assert load_model(str(run), HEART).name == "heart-second-1a2b3c4d"
    text = sentence(load_model, str(run), replace(HEART, name="liver"))
    assert f"'{run}' is a model for the task 'heart', not for 'liver'" in text
    run.rename(tmp_path / "here" / "RUN")
    assert load_model("RUN", HEART).name == "heart-second-1a2b3c4d"


def test_an_unknown_model_is_answered_with_the_known_ones(folder):
    text = sentence(load_model, "hart", HEART, folder)
    assert "'hart'" in text and "heart-tiny" in text and "heart-second" in text


def test_a_folder_that_no_training_has_written_is_told_from_a_name(tmp_path):
    text = sentence(load_model, str(tmp_path), HEART)
    assert f"'{tmp_path}'" in text and "no 'weights.json' in the folder of that name" in text


def test_a_task_without_a_model(folder):
    text = sentence(load_model, None, replace(HEART, name="liver"), folder)
    assert "'liver'" in text


def test_a_model_of_another_task_says_so(folder):
    model = load_model("heart-tiny", HEART, folder)
    text = sentence(model.check_task, replace(HEART, name="liver"))
    assert "'heart-tiny'" in text and "'heart'" in text and "'liver'" in text


def test_missing_weights(folder):
    (folder / "heart-tiny.safetensors").unlink()
    text = sentence(load_model, "heart-tiny", HEART, folder)
    assert "'heart-tiny'" in text and "heart-tiny.safetensors" in text
    assert load_model("heart-second", HEART, folder).name == "heart-second"


def test_weights_cut_short(folder):
    path = folder / "heart-tiny.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    text = sentence(load_model, "heart-tiny", HEART, folder)
    assert f"{len(whole) - 7} bytes instead of {len(whole)}" in text


def test_weights_with_one_wrong_bit(folder):
    path = folder / "heart-tiny.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "SHA-256" in sentence(load_model, "heart-tiny", HEART, folder)
    assert "SHA-256" in sentence(read_weights, find_entry("heart-tiny", HEART, folder), folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"models": 3}',
        '{"models": [{"name": "x"}]}',
        '{"models": [{"surprise": 1}]}',
        "\xff",
    ],
)
def test_a_damaged_list_of_models(tmp_path, text):
    (tmp_path / "weights.json").write_bytes(text.encode("latin-1"))
    assert "weights.json" in sentence(read_entries, tmp_path)
    assert "weights.json" in sentence(load_model, None, HEART, tmp_path)


def test_no_list_of_models(tmp_path):
    assert "weights.json" in sentence(read_entries, tmp_path)


@pytest.mark.parametrize(
    "network_options",
    [
        {"decoder_dim": 9},
        {"classes": 3},
        {"depths": [2, 1, 1, 1]},
        {"dims": [4, 8, 8]},
        {"layers": 3},
        {"heads": [3] * 4},
    ],
    ids=str,
)
def test_weights_that_do_not_fit_the_network(tmp_path, network, network_options):
    publish(tmp_path, network, entry(network={**CONFIG.to_dict(), **network_options}))
    assert "'heart-tiny' do not fit" in sentence(load_model, None, HEART, tmp_path)


def test_weights_in_another_format(tmp_path, network):
    publish(tmp_path, network, entry())
    listed = json.loads((tmp_path / "weights.json").read_text(encoding="utf-8"))
    content = b"PK\x03\x04 a pickle, not safetensors"
    (tmp_path / "heart-tiny.safetensors").write_bytes(content)
    listed["models"][0]["weights"] |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (tmp_path / "weights.json").write_text(json.dumps(listed), encoding="utf-8")
    assert "'heart-tiny' do not fit" in sentence(load_model, None, HEART, tmp_path)


@pytest.mark.parametrize("missing", ["file", "size", "sha256"])
def test_an_entry_that_says_too_little_of_its_weights(folder, missing):
    listed = json.loads((folder / "weights.json").read_text(encoding="utf-8"))
    del listed["models"][0]["weights"][missing]
    (folder / "weights.json").write_text(json.dumps(listed), encoding="utf-8")
    sentence(load_model, "heart-tiny", HEART, folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"repository": "hospital/heart"},
        {"repository": "hospital/heart", "revision": "main"},
        {"repository": "heart", "revision": REVISION},
        {"file": "../heart-tiny.safetensors"},
        {"file": 3},
        {"sha256": "none"},
        {"size": "12"},
    ],
    ids=str,
)
def test_an_entry_whose_weights_cannot_be_found_with_what_it_says(folder, changes):
    listed = json.loads((folder / "weights.json").read_text(encoding="utf-8"))
    listed["models"][0]["weights"] |= changes
    (folder / "weights.json").write_text(json.dumps(listed), encoding="utf-8")
    assert "weights.json" in sentence(load_model, "heart-tiny", HEART, folder)


@pytest.mark.parametrize(
    "options",
    [{"spacing": 1.4, "voxels": 3}, {"enhancement": {"method": "magic"}}, {"enhancement": {"way": "fuzzy"}}],
)
def test_an_entry_with_unknown_preprocessing(tmp_path, network, options):
    publish(tmp_path, network, entry(preprocessing=options))
    assert "'heart-tiny'" in sentence(load_model, "heart-tiny", HEART, tmp_path)


# --- a model whose weights are not shipped ---------------------------------------------------------


@pytest.fixture
def hub(folder, monkeypatch):
    """The weights of heart-tiny lie on a hub instead of beside weights.json."""
    listed = json.loads((folder / "weights.json").read_text(encoding="utf-8"))
    weights = listed["models"][0]["weights"]
    weights |= {"repository": "hospital/heart", "revision": REVISION}
    (folder / "weights.json").write_text(json.dumps(listed), encoding="utf-8")
    content = (folder / weights["file"]).read_bytes()
    (folder / weights["file"]).unlink()
    monkeypatch.setenv(MODELS_VARIABLE, str(folder))
    with Hub(files={("hospital/heart", REVISION, weights["file"]): content}) as hub:
        monkeypatch.setenv("DINSEGMENT_HUB", hub.url)
        yield hub


def test_a_model_is_downloaded_when_it_is_loaded(hub, network, cache):
    model = load_model("heart-tiny", HEART)
    for got, expected in zip(model.network.parameters(), rewrite(network).parameters(), strict=True):
        assert got.equal(expected)
    assert hub.requests and load_model("heart-tiny", HEART).name == "heart-tiny"
    assert hub.sent == find_entry("heart-tiny", HEART).weights["size"]


def test_settings_may_be_given_instead_of_the_environment(hub, tmp_path):
    settings = WeightsSettings(tmp_path / "elsewhere", offline=True)
    with pytest.raises(ModelError, match="are not on this machine"):
        load_model(None, HEART, settings=settings)
    settings = replace(settings, offline=False, hub=hub.url)
    load_model(None, HEART, settings=settings)
    entry = find_entry(None, HEART)
    assert is_available(entry, settings=settings) and not is_available(entry)


def small_volume():
    array = np.random.default_rng(0).random((3, 40, 40), dtype=np.float32)
    return Volume(array, np.diag([1.5, 1.5, 8.0, 1.0]))


def test_segmenting_downloads_the_model_within_the_first_part_of_its_progress(hub):
    fractions, texts = [], []
    result = segment(
        small_volume(), HEART, "heart-tiny", "cpu", lambda *said: (fractions.append(said[0]), texts.append(said[1]))
    )
    assert result.model == "heart-tiny"
    assert fractions == sorted(fractions) and fractions[-1] == 1
    downloading = [f for f, text in zip(fractions, texts, strict=True) if "heart-tiny" in text]
    assert len(downloading) > 2 and min(downloading) > 0 and max(downloading) <= 0.05


def test_segmenting_can_be_cancelled_while_the_model_is_downloaded(hub):
    hub.stall_after = 1000
    asked = []
    with pytest.raises(Cancelled):
        segment(small_volume(), HEART, "heart-tiny", "cpu", cancelled=lambda: asked.append(1) or len(asked) > 8)
    assert not is_available(find_entry("heart-tiny", HEART))


# --- the models that are shipped ------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    return read_entries(SHIPPED)


def test_shipped_models_have_names_of_their_own_and_a_known_task(shipped):
    assert shipped and len({e.name for e in shipped}) == len(shipped)
    assert {e.task for e in shipped if e.name not in told_by(shipped)} <= set(TASKS)


def told_by(shipped):
    """The names of networks that tell models what may be where."""
    parts = [part for e in shipped if e.context for part in (e.context, e.context.get("closer"))]
    return {part["model"] for part in parts if part}


def test_shipped_entries_say_what_a_user_has_to_know(shipped):
    for e in shipped:
        assert e.description and e.license
        assert all(e.data[key] for key in ("name", "license", "citation", "split"))
        assert e.scores


def on_this_machine(shipped):
    """Without those that would have to be downloaded."""
    return [e for e in shipped if "repository" not in e.weights or is_available(e, SHIPPED)]


def test_shipped_weights_are_the_listed_ones_and_small_enough(shipped):
    listed = [e for e in shipped if "repository" not in e.weights]
    assert listed
    for e in listed:
        content = (SHIPPED / e.weights["file"]).read_bytes()
        assert len(content) == e.weights["size"] <= 16 * 2**20
        assert hashlib.sha256(content).hexdigest() == e.weights["sha256"]


def test_shipped_models_load_and_have_the_classes_of_their_task(shipped):
    for e in on_this_machine(shipped):
        if e.name in told_by(shipped):
            continue  # loaded with the model that it tells
        task = get_task(e.task)
        model = load_model(e.name, task, SHIPPED)
        assert model.network.config.classes == task.classes
        x = torch.zeros(1, model.network.config.in_channels, 32, 32)
        with torch.no_grad():
            assert model.network(x, x).isfinite().all()
        assert (model.context.name if e.context else model.context) == e.context.get("model")


def test_nothing_else_lies_beside_the_shipped_models(shipped):
    listed = {e.weights["file"] for e in shipped if "repository" not in e.weights}
    assert {p.name for p in SHIPPED.glob("*.safetensors")} == listed
