"""Damages images at random and looks at what becomes of them.

    python Testing/Benchmarks/damage.py DATA [--count 2000] [--seed 0] [--segment 300]

Of a short-axis MR in DATA (dicom/cine-mr-sunnybrook) NIfTI, NRRD, MetaImage and DICOM files are written, packed and
not, and damaged: bits, bytes and digits changed, pieces cut out, put in, doubled or blanked, in headers and in bodies.
Each is read in two processes whose fresh memory is filled differently, so that voxels that nobody wrote show. Wrong is
    - whatever is no sentence for the user: a traceback, a crash, no answer within a minute;
    - a result that differs between the two processes;
    - a grid that is not the image's own where only voxels were damaged, or that is no grid;
    - any file that is changed or gone afterwards.
Many of those that could be read are segmented by the program, too, into a folder in which the user has files already:
exit code 0 with labels on the image's grid, or 2 with one line and nothing new; the user's files are as they were. It
runs warm in one process, as starting it takes longer than what is looked at. Exit code 1 if anything was wrong; the
inputs that were are then kept.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SLICES = range(40, 181, 20)
PATIENCE = 60.0
"""Seconds that one input may take."""

USERS = ("notes.txt", "phase01/mine.dcm", "original/enhanced.nrrd")
"""Files of the user's in the folder of the results."""

HEADER_BYTES = {".nii": 352, ".nii.gz": 352, ".dcm": 1500}
"""Of text headers it is where the data begin."""


def volume_of(data: Path) -> sitk.Image:
    """Eight slices of the first phase, of every second pixel."""
    files = [data / f"dicom/cine-mr-sunnybrook/{number + 1}.dcm" for number in reversed(SLICES)]
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    return reader.Execute()[::2, ::2]


def write_inputs(data: Path, folder: Path) -> list[Path]:
    """The images that are damaged, one in each format."""
    image = volume_of(data)
    made = []
    for name, packed in (
        *(("image.nii", False), ("image.nii.gz", True), ("raw.nrrd", False), ("gzip.nrrd", True)),
        *(("raw.mha", False), ("zlib.mha", True), ("apart.nhdr", False), ("apart.mhd", False)),
    ):
        place = folder / name.replace(".", "-")
        place.mkdir()
        sitk.WriteImage(image, str(place / name), packed)
        made.append(place / name)
    series = folder / "dicom"
    series.mkdir()
    for number in SLICES:
        shutil.copyfile(data / f"dicom/cine-mr-sunnybrook/{number + 1}.dcm", series / f"{number:03d}.dcm")
    made.append(series)
    return made


# --- damage


def _flip(content: bytearray, where: range, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 3, 20))):
        content[chance.choice(where)] ^= 1 << chance.randrange(8)


def _other(content: bytearray, where: range, chance: random.Random) -> None:
    content[chance.choice(where)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _digit(content: bytearray, where: range, chance: random.Random) -> None:
    digits = [n for n in where if 48 <= content[n] < 58]
    if digits:
        content[chance.choice(digits)] = chance.choice(b"0123456789.-eE ")


def _cut(content: bytearray, where: range, chance: random.Random) -> None:
    start = chance.choice(where)
    del content[start : start + chance.choice((1, 2, 16, 1000))]


def _end(content: bytearray, where: range, chance: random.Random) -> None:
    del content[chance.choice(where) :]


def _put_in(content: bytearray, where: range, chance: random.Random) -> None:
    start = chance.choice(where)
    content[start:start] = chance.randbytes(chance.choice((1, 2, 16, 1000)))


def _blank(content: bytearray, where: range, chance: random.Random) -> None:
    start = chance.choice(where)
    length = min(chance.choice((4, 64, 4096)), len(content) - start)
    content[start : start + length] = bytes(length)


def _double(content: bytearray, where: range, chance: random.Random) -> None:
    start = chance.choice(where)
    piece = content[start : start + chance.choice((16, 256))]
    content[start:start] = piece


DAMAGES: tuple[Callable[[bytearray, range, random.Random], None], ...] = (
    *(_flip, _other, _digit, _cut, _end, _put_in, _blank, _double),
)


def header_bytes(file: Path, content: bytes) -> int:
    suffix = "".join(file.suffixes[-2:]) if file.name.endswith(".gz") else file.suffix
    if suffix in HEADER_BYTES:
        return min(HEADER_BYTES[suffix], len(content))
    if suffix in (".nhdr", ".mhd"):
        return len(content)
    mark = b"\n\n" if suffix == ".nrrd" else b"ElementDataFile = LOCAL\n"
    return content.find(mark) + len(mark) if mark in content else 0


def damage(source: Path, target: Path, chance: random.Random) -> bool:
    """Copies an input and damages the copy; returns whether its header may be damaged."""
    shutil.copytree(source if source.is_dir() else source.parent, target)
    files = sorted(target.iterdir())
    file = chance.choice(files)
    if source.is_dir() and chance.random() < 0.1:  # a whole file is gone
        file.unlink()
        return True
    content = bytearray(file.read_bytes())
    packed = file.suffix == ".gz"
    if packed and chance.random() < 0.7:  # damage within, of which the checksum knows nothing
        content = bytearray(gzip.decompress(content))
    else:
        packed = False
    header = header_bytes(file, bytes(content)) or 1
    in_header = chance.random() < 0.6 or header >= len(content)
    chance.choice(DAMAGES)(content, range(header) if in_header else range(header, len(content)), chance)
    if packed:
        content = bytearray(gzip.compress(bytes(content), 1, mtime=0))
    file.write_bytes(content)
    return in_header or file.suffix == ".gz" or source.is_dir()


# --- reading and segmenting


def read(path: str) -> dict[str, object]:
    """What becomes of an input, as JSON."""
    from dinsegment.errors import DINSegmentError
    from dinsegment.images import read_volumes

    try:
        volumes = read_volumes(path)
    except DINSegmentError as error:
        return {"refused": str(error)}
    digest = hashlib.sha256(b"".join(volume.array.tobytes() for volume in volumes)).hexdigest()
    return {
        "voxels": digest,
        "shape": volumes[0].shape,
        "grid": volumes[0].ijk_to_ras.tolist(),
        "warnings": volumes[0].warnings,
    }


def segment(path: str, output: str) -> dict[str, object]:
    """What the command line makes of an input: its exit code, what it says, and the grid of the labels."""
    from dinsegment import cli
    from dinsegment.images import read_volume

    sys.argv = ["dinsegment", "segment", path, "--task", "heart", "--output", output, "--device", "cpu"]
    said, code = io.StringIO(), 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code or 0
    answer: dict[str, object] = {"code": code, "said": said.getvalue()}
    results = sorted(Path(output).rglob("segmentation.seg.nrrd"))
    if code == 0 and results:
        labels = read_volume(results[0])
        answer |= {"shape": labels.shape, "grid": labels.ijk_to_ras.tolist()}
    return answer


def serve() -> None:
    """Does what each line asks for, and says what became of it; first of all that it has started."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # C libraries print where they like
    import dinsegment.inference.pipeline  # noqa: F401  imports take long on a busy machine

    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        what, *paths = json.loads(line)
        try:
            answer = {"read": read, "segment": segment}[what](*paths)
        except BaseException as error:
            answer = {"wrong": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


class Server:
    """A process that reads and segments, with fresh memory of one content; it is started again when it has died."""

    def __init__(self, fill: int, patience: float) -> None:
        self._fill, self._patience, self._process = fill, patience, None

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"MALLOC_PERTURB_": str(self._fill)},
        )
        self._answers: queue.Queue[str] = queue.Queue()
        answers, stream = self._answers, self._process.stdout

        def listen() -> None:
            for line in stream:
                answers.put(line)
            answers.put("")

        threading.Thread(target=listen, daemon=True).start()
        self._answers.get()

    def ask(self, what: str, *paths: Path) -> dict[str, object]:
        if self._process is None or self._process.poll() is not None:
            self._start()
        self._process.stdin.write(json.dumps([what, *map(str, paths)]) + "\n")
        self._process.stdin.flush()
        try:
            answer = self._answers.get(timeout=self._patience)
        except queue.Empty:
            self.stop()
            return {"wrong": f"no answer within {self._patience:g} s"}
        if not answer:
            return {"wrong": f"it crashed with {self._process.wait()}"}
        return json.loads(answer)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


# --- what is right


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def complaints(answers: list[dict[str, object]], undamaged: dict[str, object], header_damaged: bool) -> Iterator[str]:
    for answer in answers:
        if "wrong" in answer:
            yield str(answer["wrong"])
        elif "\n" in str(answer.get("refused", "")):
            yield "more than one line"
    one, other = answers
    if {key: one.get(key) for key in ("voxels", "grid")} != {key: other.get(key) for key in ("voxels", "grid")}:
        yield "two readings differ"
    if "grid" in one:
        grid = np.array(one["grid"])
        if not np.isfinite(grid).all() or abs(np.linalg.det(grid[:3, :3])) == 0:
            yield "no grid"
        if not header_damaged and (one["grid"], one["shape"]) != (undamaged["grid"], undamaged["shape"]):
            yield "another grid, though only voxels were damaged"


def segmented(
    server: Server, path: Path, output: Path, whole: dict[str, object], counts: Counter[str]
) -> Iterator[str]:
    """What is wrong with what the program makes of an input that was read as `whole`; counts what it does."""
    for name in USERS:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text(f"{name} of the user's", encoding="utf-8")
    before = digests(output)
    answer = server.ask("segment", path, output)
    after = digests(output)
    if "wrong" in answer:
        yield f"{answer['wrong']} {answer.get('traceback', '')}"
        return
    if any(after.get(name) != digest for name, digest in before.items()):
        yield "files of the user's among the results were changed or lost"
    said = str(answer["said"])
    counts["segmented" if answer["code"] == 0 else "refused when segmented"] += 1
    if answer["code"] == 2:
        if not said.startswith("Error: ") or said.count("\n") != 1 or after != before:
            yield f"exit code 2, but: {said[-300:]}, {sorted(after.keys() - before.keys())}"
        return
    if answer["code"]:
        yield f"exit code {answer['code']}: {said[-300:]}"
        return
    size = max(np.abs(np.array(whole["grid"])).max(), 1.0)
    if answer.get("shape") != whole["shape"] or not np.allclose(
        answer["grid"], whole["grid"], rtol=0, atol=1e-5 * size
    ):
        yield "the labels lie elsewhere"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="the reference images")
    parser.add_argument("--count", type=int, default=2000, help="inputs")
    parser.add_argument("--seed", type=int, default=0, help="of what is damaged")
    parser.add_argument("--segment", type=int, default=300, help="how many of those that can be read are segmented")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds that one input may take")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return 0
    chance, counts, found = random.Random(options.seed), Counter(), []
    readers = [Server(0x55, options.patience), Server(0xAA, options.patience)]
    folder = Path(tempfile.mkdtemp(prefix="damage-"))
    (folder / "whole").mkdir()
    sources = write_inputs(options.data, folder / "whole")
    undamaged = {source: readers[0].ask("read", source) for source in sources}
    assert all("voxels" in answer for answer in undamaged.values()), undamaged
    to_segment, every = options.segment, max(1, options.count // max(1, options.segment))
    for number in range(options.count):
        source = sources[number % len(sources)]
        place = folder / f"{number:05d}"
        header_damaged = damage(source, place, chance)
        path = place if source.is_dir() else place / source.name
        before = digests(place)
        answers = [reader.ask("read", path) for reader in readers]
        wrong = list(complaints(answers, undamaged[source], header_damaged))
        answer, whole = answers[0], undamaged[source]
        if "refused" in answer:
            counts["refused"] += 1
        elif (answer.get("voxels"), answer.get("grid")) == (whole["voxels"], whole["grid"]):
            counts["read as if undamaged"] += 1
        elif "voxels" in answer:
            counts["read with other voxels" if answer["grid"] == whole["grid"] else "read on another grid"] += 1
        changed = "voxels" in answer and answer["grid"] != whole["grid"]
        if to_segment > 0 and not wrong and "voxels" in answer and (changed or number % every == 0):
            to_segment -= 1
            output = folder / "out"
            wrong += segmented(readers[0], path, output, answer, counts)
            shutil.rmtree(output, ignore_errors=True)
        if digests(place) != before:
            wrong.append("files of the input were changed or lost")
        if wrong:
            found.append((path, wrong))
            print(path, *wrong, sep="\n    ", flush=True)
        else:
            shutil.rmtree(place)
    for reader in readers:
        reader.stop()
    print(f"{options.count} inputs:", ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    print(f"{len(found)} wrong" + (f", kept in {folder}" if found else ""))
    if not found:
        shutil.rmtree(folder)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
