"""Weights from a hub over real connections: what arrives is whole and right, and what goes wrong is said."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import PIECE, Hub, forget_settings
from huggingface_hub import close_session

import dinsegment
from dinsegment.errors import Cancelled, ModelError
from dinsegment.models.download import address, is_the_hub
from dinsegment.models.entries import MODELS_VARIABLE, find_entry, models_list
from dinsegment.models.settings import (
    CACHE_VARIABLE,
    HUB_VARIABLE,
    OFFLINE_FOLDER_VARIABLE,
    OFFLINE_VARIABLE,
    STALL_VARIABLE,
    WeightsSettings,
    default_cache,
)
from dinsegment.models.weights import find_weights, import_weights, is_available, locate, provide_weights

SHIPPED = Path(dinsegment.__file__).parents[2] / "Resources" / "Models"
LISTED = json.loads(models_list(SHIPPED).read_text(encoding="utf-8"))["models"][0]
CONTENT = (SHIPPED / LISTED["weights"]["file"]).read_bytes()
FILE = "heart-remote.safetensors"
REVISION = "0123456789abcdef0123456789abcdef01234567"
FIRST = 5_000_000
"""Bytes of the part that arrives where not all does."""


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """A list with one model, whose weights are on the hub alone, an empty cache, and no other setting."""
    forget_settings(monkeypatch)
    folder = tmp_path / "models"
    folder.mkdir()
    weights = {**LISTED["weights"], "file": FILE, "repository": "hospital/heart", "revision": REVISION}
    entry = {**LISTED, "name": "heart-remote", "weights": weights}
    (folder / "weights.json").write_text(json.dumps({"models": [entry]}), encoding="utf-8")
    monkeypatch.setenv(MODELS_VARIABLE, str(folder))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    yield folder
    close_session()  # the next test has other proxies


@pytest.fixture
def hub(monkeypatch):
    with Hub(files={("hospital/heart", REVISION, FILE): CONTENT}) as hub:
        monkeypatch.setenv(HUB_VARIABLE, hub.url)
        yield hub


@pytest.fixture
def entry(models):
    return find_entry("heart-remote", None)


def cached(entry):
    return WeightsSettings.from_environment().cached(entry)


def partial(entry):
    return cached(entry).with_name(f"{FILE}.part")


def kept(cache):
    """What the cache holds, but for locks."""
    return sorted(p.name for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock")


def sentence(function, *arguments, **options):
    """What the ModelError of the call tells the user, in one line that says what else to do."""
    with pytest.raises(ModelError) as caught:
        function(*arguments, **options)
    text = str(caught.value)
    assert text and "\n" not in text and text.endswith(".") and len(text) < 600
    return text


def failed_download(entry, **options):
    """The sentence about a download that failed: it names the way by hand, and no final file is there."""
    text = sentence(provide_weights, entry, **options)
    assert f"download '{FILE}' from " in text
    assert f"/hospital/heart/resolve/{REVISION}/{FILE} on another machine and import it" in text
    assert f"`dinsegment models --import {FILE}`" in text and "Import weights…" in text
    assert not is_available(entry)
    return text


class Told:
    """Progress as it was told."""

    def __init__(self):
        self.fractions, self.texts = [], []

    def __call__(self, fraction, text):
        self.fractions.append(fraction)
        self.texts.append(text)


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# --- what works -----------------------------------------------------------------------------------


def test_weights_that_are_not_here_are_downloaded_and_then_used_from_the_cache(hub, entry, tmp_path):
    assert locate(entry) is None and not is_available(entry)
    path = provide_weights(entry)
    assert path.read_bytes() == CONTENT
    assert path == locate(entry) and find_weights(entry) == ("cached", path)
    assert path.is_relative_to(tmp_path / "cache") and kept(tmp_path / "cache") == [FILE]
    before = len(hub.requests)
    assert provide_weights(entry) == path
    assert len(hub.requests) == before == 2


def test_progress_rises_from_the_first_to_the_last_byte_and_says_how_far_it_is(hub, entry):
    told = Told()
    provide_weights(entry, progress=told)
    assert told.fractions == sorted(told.fractions)
    assert 0 < told.fractions[0] < 0.05 and told.fractions[-1] == 1
    assert len(told.fractions) > 50
    assert "Downloading heart-remote: 6 of 12 MB" in told.texts
    assert told.texts[-2] == "Checking heart-remote"


def test_a_mirror_and_what_it_leads_to_do_not_get_the_token(hub, entry, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    provide_weights(entry)
    asked, bytes_asked = hub.requests
    assert bytes_asked.target.startswith("/bytes/")
    assert not any("hf_secret" in str(request.headers) for request in (asked, bytes_asked))


@pytest.mark.parametrize(
    ("mirror", "gets"),
    [
        (None, True),
        ("https://huggingface.co", True),
        ("http://huggingface.co", False),
        ("https://huggingface.co.evil.org", False),
        ("https://huggingface.co:8443", False),
        ("https://mirror.hospital.org", False),
    ],
)
def test_the_token_goes_to_the_hub_alone(mirror, gets, entry):
    assert is_the_hub(address(entry, WeightsSettings(Path("cache"), hub=mirror))) is gets


def test_the_hub_may_also_be_named_as_everybody_names_it(hub, entry, monkeypatch):
    monkeypatch.delenv(HUB_VARIABLE)
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
    assert provide_weights(entry).read_bytes() == CONTENT
    monkeypatch.setenv(HUB_VARIABLE, "http://mirror.invalid/hub/")
    assert WeightsSettings.from_environment().hub == "http://mirror.invalid/hub"


def test_the_hub_is_reached_through_the_proxy(hub, entry, monkeypatch):
    """The name can only be resolved by the proxy."""
    hub.redirect = False
    monkeypatch.setenv(HUB_VARIABLE, "http://hub.invalid")
    monkeypatch.setenv("HTTP_PROXY", hub.url)
    monkeypatch.setenv("http_proxy", hub.url)
    assert provide_weights(entry).read_bytes() == CONTENT
    assert hub.requests[0].target.startswith("http://hub.invalid/hospital/heart/resolve/")


def test_new_weights_under_an_old_file_name_do_not_meet_the_old_ones(hub, entry):
    old = provide_weights(entry)
    content = bytes(reversed(CONTENT))
    hub.files[("hospital/heart", REVISION, FILE)] = content
    newer = replace(entry, weights={**entry.weights, "sha256": hashlib.sha256(content).hexdigest()})
    assert not is_available(newer)
    assert provide_weights(newer).read_bytes() == content
    assert old.read_bytes() == CONTENT


# --- cut off, cancelled, resumed ------------------------------------------------------------------


def test_a_download_that_was_cut_off_goes_on_where_it_stopped(hub, entry, tmp_path):
    hub.cut_after = FIRST
    text = failed_download(entry)
    assert "'heart-remote' was cut off after 5 of 12 MB: try again, it goes on from there" in text
    assert partial(entry).read_bytes() == CONTENT[:FIRST]
    told = Told()
    assert provide_weights(entry, progress=told).read_bytes() == CONTENT
    assert hub.of_bytes()[-1].headers["range"] == f"bytes={FIRST}-"
    assert hub.sent == len(CONTENT)
    assert told.fractions[0] > 0.95 * FIRST / len(CONTENT)
    assert kept(tmp_path / "cache") == [FILE]


def test_a_server_without_ranges_sends_all_again(hub, entry):
    hub.cut_after = FIRST
    failed_download(entry)
    hub.ignore_ranges = True
    assert provide_weights(entry).read_bytes() == CONTENT
    assert hub.sent == FIRST + len(CONTENT)


def test_a_process_that_is_killed_leaves_a_download_that_goes_on(hub, entry):
    hub.stall_after = FIRST
    process = start_download()
    wait_until(lambda: hub.sent == FIRST and partial(entry).stat().st_size > FIRST - 100_000)
    process.kill()
    process.wait()
    assert not is_available(entry)
    hub.stall_after = None
    assert provide_weights(entry).read_bytes() == CONTENT
    assert int(hub.of_bytes()[-1].headers["range"][len("bytes=") : -1]) > FIRST - 100_000


def test_cancelling_keeps_what_has_arrived(hub, entry):
    told = Told()
    with pytest.raises(Cancelled):
        provide_weights(entry, progress=told, cancelled=lambda: bool(told.fractions) and told.fractions[-1] > 0.4)
    assert not is_available(entry)
    size = partial(entry).stat().st_size
    assert 0.4 * len(CONTENT) < size < 0.6 * len(CONTENT)
    assert provide_weights(entry).read_bytes() == CONTENT
    assert hub.of_bytes()[-1].headers["range"] == f"bytes={size}-"


@pytest.mark.parametrize("stall_after", [0, FIRST])
def test_cancelling_does_not_wait_for_a_server_that_does_not_answer(stall_after, hub, entry, monkeypatch):
    """The user cancels once nothing comes any more. Who waited for the server would be told that it gave up instead."""
    monkeypatch.setenv(STALL_VARIABLE, "60")
    hub.stall_after = stall_after
    asked = []

    def cancelled() -> bool:
        there = partial(entry).stat().st_size if partial(entry).exists() else -1  # It is made with the first answer.
        silent = bool(hub.of_bytes()) and hub.sent == stall_after == there
        asked.append(silent)
        return sum(asked) > 3

    with pytest.raises(Cancelled):
        provide_weights(entry, cancelled=cancelled)
    assert partial(entry).read_bytes() == CONTENT[:stall_after]


def test_a_file_that_had_arrived_before_it_was_checked_is_not_downloaded_again(hub, entry):
    partial(entry).parent.mkdir(parents=True)
    partial(entry).write_bytes(CONTENT)
    assert provide_weights(entry).read_bytes() == CONTENT
    assert not hub.requests


# --- the wrong bytes ------------------------------------------------------------------------------


def test_a_wrong_checksum_removes_the_file(hub, entry, tmp_path):
    wrong = bytearray(CONTENT)
    wrong[-1] ^= 1
    hub.files[("hospital/heart", REVISION, FILE)] = bytes(wrong)
    text = failed_download(entry)
    assert "has a wrong SHA-256 and was removed" in text and "localhost" not in text
    assert kept(tmp_path / "cache") == []
    hub.files[("hospital/heart", REVISION, FILE)] = CONTENT
    assert provide_weights(entry).read_bytes() == CONTENT
    assert "range" not in hub.of_bytes()[-1].headers


def test_a_part_that_was_damaged_does_not_come_through(hub, entry, tmp_path):
    partial(entry).parent.mkdir(parents=True)
    partial(entry).write_bytes(bytes(FIRST))
    assert "wrong SHA-256" in failed_download(entry)
    assert kept(tmp_path / "cache") == []
    assert provide_weights(entry).read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(hub, entry):
    partial(entry).parent.mkdir(parents=True)
    partial(entry).write_bytes(CONTENT + b"more")
    assert provide_weights(entry).read_bytes() == CONTENT


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("content", [b"<html>Please log in.</html>", CONTENT + b"more", CONTENT[:-1]])
def test_something_else_of_another_size(chunked, content, hub, entry, tmp_path):
    hub.files[("hospital/heart", REVISION, FILE)] = content
    hub.chunked = chunked
    text = failed_download(entry)
    assert f"sent is not '{FILE}', it has another size" in text
    hub.files[("hospital/heart", REVISION, FILE)] = CONTENT
    assert provide_weights(entry).read_bytes() == CONTENT


def test_an_answer_that_does_not_end_is_not_taken_any_further_than_the_file(hub, entry):
    hub.files[("hospital/heart", REVISION, FILE)] = CONTENT * 6
    hub.chunked, hub.pause = True, 0.001
    assert "has another size" in failed_download(entry)
    assert hub.sent < 4 * len(CONTENT)


def test_a_shorter_file_where_the_rest_is_asked_for(hub, entry):
    hub.cut_after = FIRST
    failed_download(entry)
    hub.files[("hospital/heart", REVISION, FILE)] = CONTENT[: FIRST - 5]
    assert "has another size" in failed_download(entry)


def test_a_server_that_does_not_say_how_long_the_file_is(hub, entry):
    hub.chunked = True
    assert provide_weights(entry).read_bytes() == CONTENT


def test_a_cached_file_that_was_damaged_is_removed_and_downloaded_at_the_next_try(hub, entry, tmp_path):
    path = provide_weights(entry)
    damaged = bytearray(CONTENT)
    damaged[1000] ^= 1
    path.write_bytes(damaged)
    assert is_available(entry)
    assert "SHA-256 is wrong and was removed; download or import it again" in sentence(provide_weights, entry)
    assert kept(tmp_path / "cache") == []
    assert provide_weights(entry).read_bytes() == CONTENT


def test_a_cached_file_that_was_cut_short_is_downloaded_again(hub, entry):
    path = provide_weights(entry)
    path.write_bytes(CONTENT[:-1])
    assert not is_available(entry)
    assert provide_weights(entry).read_bytes() == CONTENT


# --- the network ----------------------------------------------------------------------------------


def test_a_file_that_the_hub_does_not_have(hub, entry):
    other = replace(entry, weights={**entry.weights, "revision": "f" * 40})
    text = sentence(provide_weights, other)
    assert f"The server 127.0.0.1 has no file '{FILE}' (error 404)" in text
    assert f"check the mirror that {HUB_VARIABLE} names" in text and "f" * 40 in text


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "refuses to give"),
        (403, "ask your IT department"),
        (407, "asks for a password"),
        (500, "could not give"),
        (503, "try again later"),
    ],
)
def test_a_server_that_answers_with_an_error(status, words, hub, entry):
    hub.status = status
    text = failed_download(entry)
    assert words in text and f"error {status}" in text


@pytest.mark.parametrize("stall_after", [0, FIRST])
def test_a_server_that_stalls_is_given_up(stall_after, hub, entry, monkeypatch):
    monkeypatch.setenv(STALL_VARIABLE, "1.5")
    hub.stall_after = stall_after
    text = failed_download(entry)
    assert "sent nothing for 1.5 seconds" in text and STALL_VARIABLE in text
    assert partial(entry).read_bytes() == CONTENT[:stall_after]
    hub.stall_after = None
    assert provide_weights(entry).read_bytes() == CONTENT
    assert hub.sent == len(CONTENT)


def test_a_server_that_is_slow_as_a_whole_is_not_given_up(hub, entry, monkeypatch):
    """Its pauses are longer than the limit when they are added up, and each is far below it."""
    monkeypatch.setenv(STALL_VARIABLE, "2")
    hub.pause = 0.012
    assert hub.pause * len(CONTENT) / PIECE > 2
    assert provide_weights(entry).read_bytes() == CONTENT


def test_a_server_that_is_not_there(entry, monkeypatch):
    monkeypatch.setenv(HUB_VARIABLE, f"http://127.0.0.1:{closed_port()}")
    assert "The server 127.0.0.1 cannot be reached" in failed_download(entry)


def test_a_name_that_is_not_resolved(entry, monkeypatch):
    monkeypatch.setenv(HUB_VARIABLE, "http://hub.invalid")
    assert "No server named hub.invalid was found" in failed_download(entry)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses(scheme, entry, monkeypatch):
    proxy = f"127.0.0.1:{closed_port()}"
    monkeypatch.setenv(HUB_VARIABLE, f"{scheme}://hub.invalid")
    monkeypatch.setenv(f"{scheme}_proxy", f"http://me:secret@{proxy}")
    text = failed_download(entry)
    assert f"The proxy http://{proxy} refused the connection to hub.invalid" in text
    assert "HTTPS_PROXY" in text and "secret" not in text


def test_a_proxy_that_lets_nobody_through(hub, entry, monkeypatch):
    monkeypatch.setenv(HUB_VARIABLE, "https://hub.invalid")
    monkeypatch.setenv("https_proxy", hub.url)
    text = failed_download(entry)
    assert f"The proxy {hub.url} refused the connection to hub.invalid" in text and "403" in text
    assert hub.requests[0].method == "CONNECT"


def test_a_server_without_encryption_where_it_is_expected(hub, entry, monkeypatch):
    monkeypatch.setenv(HUB_VARIABLE, hub.url.replace("http:", "https:"))
    assert "The connection to 127.0.0.1 is not trusted" in failed_download(entry)


@pytest.mark.parametrize("address", ["mirror.hospital", "ftp://mirror.hospital", "https://"])
def test_a_mirror_that_is_no_web_address(address, entry, monkeypatch):
    monkeypatch.setenv(HUB_VARIABLE, address)
    assert HUB_VARIABLE in sentence(provide_weights, entry)


# --- offline --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", [OFFLINE_VARIABLE, "HF_HUB_OFFLINE"])
def test_offline_only_what_is_here_is_used(variable, hub, entry, monkeypatch):
    monkeypatch.setenv(variable, "1")
    text = failed_download(entry)
    assert "are not on this machine" in text and OFFLINE_VARIABLE in text and "HF_HUB_OFFLINE" in text
    assert not hub.requests
    monkeypatch.delenv(variable)
    path = provide_weights(entry)
    monkeypatch.setenv(variable, "true")
    before = len(hub.requests)
    assert provide_weights(entry) == path and len(hub.requests) == before


def test_the_offline_folder_is_used_without_asking_the_hub(hub, entry, tmp_path, monkeypatch):
    folder = tmp_path / "filled by IT"
    folder.mkdir()
    monkeypatch.setenv(OFFLINE_FOLDER_VARIABLE, str(folder))
    assert not is_available(entry)
    (folder / FILE).write_bytes(CONTENT)
    assert find_weights(entry) == ("offline folder", folder / FILE)
    assert provide_weights(entry) == folder / FILE
    assert not hub.requests and not (tmp_path / "cache").exists()


def test_the_offline_folder_may_be_a_copy_of_a_cache(hub, entry, tmp_path, monkeypatch):
    provide_weights(entry)
    shutil.move(tmp_path / "cache", tmp_path / "copy")
    monkeypatch.setenv(OFFLINE_FOLDER_VARIABLE, str(tmp_path / "copy"))
    monkeypatch.setenv(OFFLINE_VARIABLE, "1")
    assert provide_weights(entry).read_bytes() == CONTENT


def test_a_damaged_file_of_the_offline_folder_is_named_and_left_alone(entry, tmp_path, monkeypatch):
    monkeypatch.setenv(OFFLINE_FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv(OFFLINE_VARIABLE, "1")
    path = tmp_path / FILE
    path.write_bytes(bytes(len(CONTENT)))
    text = sentence(provide_weights, entry)
    assert f"'{path}' is damaged: its SHA-256 is wrong; copy it to the offline folder again" in text
    path.write_bytes(CONTENT[:-3])
    text = sentence(provide_weights, entry)
    assert f"'{path}' has {len(CONTENT) - 3} bytes instead of {len(CONTENT)}" in text
    assert path.exists() and not is_available(entry)


def test_shipped_weights_come_first(hub, entry, models, tmp_path, monkeypatch):
    monkeypatch.setenv(OFFLINE_FOLDER_VARIABLE, str(tmp_path))
    for path in (models / FILE, tmp_path / FILE):
        path.write_bytes(CONTENT)
    assert find_weights(entry) == ("shipped", models / FILE)
    assert provide_weights(entry) == models / FILE


# --- import ---------------------------------------------------------------------------------------


def test_a_file_from_another_machine_is_imported_whatever_its_name(entry, tmp_path):
    file = tmp_path / "heart-remote(1).safetensors"
    file.write_bytes(CONTENT)
    told = Told()
    assert import_weights(file, progress=told) == entry
    assert locate(entry) == cached(entry) and cached(entry).read_bytes() == CONTENT
    assert told.fractions == sorted(told.fractions) and told.fractions[-1] == 1
    assert file.exists() and kept(tmp_path / "cache") == [FILE]
    import_weights(file)
    assert import_weights(cached(entry)) == entry  # which must not copy the file onto itself
    assert cached(entry).read_bytes() == CONTENT


def test_files_that_are_not_the_weights_are_not_imported(entry, tmp_path):
    damaged = bytearray(CONTENT)
    damaged[5] ^= 1
    for name, content, words in (
        ("notes.safetensors", b"notes", f"is the weights of no model that weights.json has; it has: '{FILE}'"),
        (FILE, CONTENT[:FIRST], f"has {FIRST} bytes instead of {len(CONTENT)}: it was cut short"),
        ("damaged.safetensors", damaged, "but another SHA-256"),
    ):
        (tmp_path / name).write_bytes(content)
        text = sentence(import_weights, tmp_path / name)
        assert words in text and name in text
    assert "cannot be read" in sentence(import_weights, tmp_path / "nowhere.safetensors")
    sentence(import_weights, tmp_path)
    assert not (tmp_path / "cache").exists() and not is_available(entry)


def test_an_import_that_is_cancelled_leaves_nothing(tmp_path):
    (tmp_path / FILE).write_bytes(CONTENT)
    told = Told()
    with pytest.raises(Cancelled):
        import_weights(tmp_path / FILE, progress=told, cancelled=lambda: told.fractions[-1] >= 0.5)
    assert kept(tmp_path / "cache") == []


# --- disk and processes ---------------------------------------------------------------------------

DOWNLOAD = """
from dinsegment.errors import ModelError
from dinsegment.models.entries import find_entry
from dinsegment.models.weights import import_weights, provide_weights
import sys
try:
    print(import_weights(sys.argv[1]) if sys.argv[1:] else provide_weights(find_entry("heart-remote", None)))
except ModelError as error:
    print("ModelError:", error)
"""


def start_download(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", DOWNLOAD, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options)


def wait_until(condition, seconds=120):
    stop = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except FileNotFoundError:
            pass
        assert time.monotonic() < stop
        time.sleep(0.02)


def test_two_processes_at_once_download_once(hub, entry, tmp_path):
    hub.pause = 0.01
    processes = [start_download() for _ in range(2)]
    printed = [p.communicate(timeout=300)[0].strip() for p in processes]
    assert printed == [str(cached(entry))] * 2
    assert cached(entry).read_bytes() == CONTENT
    assert hub.sent == len(CONTENT) and len(hub.of_bytes()) == 1
    assert kept(tmp_path / "cache") == [FILE]


def test_one_that_waits_for_another_process_can_be_cancelled(hub, entry):
    hub.stall_after = FIRST
    process = start_download()
    try:
        wait_until(lambda: hub.sent == FIRST)
        polled = []
        with pytest.raises(Cancelled):
            provide_weights(entry, cancelled=lambda: polled.append(1) or len(polled) > 3)
        assert len(hub.of_bytes()) == 1
    finally:
        process.kill()
        process.communicate()


def test_two_that_a_drive_without_locks_does_not_keep_apart_do_not_harm_each_other(hub, entry, monkeypatch):
    """There `flock` succeeds for everybody, which a lock that holds nobody stands for."""
    import huggingface_hub.utils

    monkeypatch.setattr(huggingface_hub.utils, "WeakFileLock", lambda *_a, **_k: nullcontext())
    hub.cut_after, hub.pause = FIRST, 0.001
    failed_download(entry)
    outcomes = []

    def download():
        try:
            outcomes.append(provide_weights(entry).read_bytes() == CONTENT)
        except ModelError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=download) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [True, True]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
@pytest.mark.parametrize("way", ["download", "import"])
def test_a_full_disk_is_said_and_leaves_nothing_under_the_final_name(way, hub, entry, tmp_path):
    (tmp_path / FILE).write_bytes(CONTENT)

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (FIRST, FIRST))

    process = start_download(*([tmp_path / FILE] if way == "import" else []), preexec_fn=limit)
    printed = process.communicate(timeout=300)[0]
    assert printed.startswith("ModelError: ") and len(printed.splitlines()) == 1
    assert f"cannot be kept in '{tmp_path / 'cache'}' (file too large)" in printed and CACHE_VARIABLE in printed
    assert not is_available(entry)
    assert provide_weights(entry).read_bytes() == CONTENT


def test_too_little_room_is_said_before_anything_is_downloaded(hub, entry, tmp_path):
    huge = replace(entry, weights={**entry.weights, "size": 10**18})
    text = sentence(provide_weights, huge)
    assert f"cannot be kept in '{tmp_path / 'cache'}'" in text and "1000000000000 MB are needed" in text
    assert not hub.requests


def test_a_cache_that_is_no_folder(hub, entry, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    assert CACHE_VARIABLE in sentence(provide_weights, entry)
    (tmp_path / FILE).write_bytes(CONTENT)
    assert CACHE_VARIABLE in sentence(import_weights, tmp_path / FILE)
    assert not is_available(entry)


# --- settings -------------------------------------------------------------------------------------


def test_settings_come_from_the_environment(monkeypatch):
    for variable, value in (
        (CACHE_VARIABLE, "~/weights"),
        (OFFLINE_FOLDER_VARIABLE, "/mnt/models"),
        (HUB_VARIABLE, "https://mirror.hospital/"),
        (OFFLINE_VARIABLE, "yes"),
        (STALL_VARIABLE, "90"),
    ):
        monkeypatch.setenv(variable, value)
    assert WeightsSettings.from_environment() == WeightsSettings(
        Path.home() / "weights", Path("/mnt/models"), "https://mirror.hospital", True, 90.0
    )


@pytest.mark.parametrize("value", ["", "0", "no"])
def test_without_settings_the_usual_ones_hold(value, monkeypatch):
    monkeypatch.setenv(OFFLINE_VARIABLE, value)
    for variable in (CACHE_VARIABLE, OFFLINE_FOLDER_VARIABLE, HUB_VARIABLE, STALL_VARIABLE):
        monkeypatch.setenv(variable, "")
    assert WeightsSettings.from_environment() == WeightsSettings(default_cache())


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {"XDG_CACHE_HOME": "/var/me/cache"}, "/var/me/cache/dinsegment"),
        ("linux", {"XDG_CACHE_HOME": ""}, "~/.cache/dinsegment"),
        ("darwin", {}, "~/Library/Caches/dinsegment"),
        ("win32", {"LOCALAPPDATA": "/Users/me/Local"}, "/Users/me/Local/dinsegment/Cache"),
    ],
)
def test_the_cache_is_where_the_platform_has_it(platform, variables, folder, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert default_cache() == Path(folder).expanduser()


def test_looking_for_weights_imports_neither_torch_nor_the_hub(models):
    code = (
        "import sys; from dinsegment.models.weights import is_available;"
        "from dinsegment.models.entries import find_entry;"
        "is_available(find_entry(None, None));"
        "print(*{'torch', 'huggingface_hub', 'httpx', 'httpx2', 'numpy'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
