"""Damages images at random and looks at what becomes of them.

    python Testing/Benchmarks/damage.py DATA [--count 2000] [--seed 0] [--segment 40]

Of a short-axis MR in DATA (dicom/cine-mr-sunnybrook) NIfTI, NRRD, MetaImage and DICOM files are written, packed and
not, and damaged: bits, bytes and digits changed, pieces cut out, put in, doubled or blanked, in headers and in bodies.
Each is read in two processes whose fresh memory is filled differently, so that voxels that nobody wrote show. Wrong is
    - whatever is no sentence for the user: a traceback, a crash, no answer within a minute;
    - a result that differs between the two processes;
    - a grid that is not the image's own where only voxels were damaged, or that is no grid;
    - any file that is changed or gone afterwards.
Some of those that could be read are segmented by the program, too: exit code 0 with labels on the image's grid, or 2
with one line and no output. Exit code 1 if anything was wrong; the inputs that were are then kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SLICES = range(40, 181, 20)
PATIENCE = 60.0
"""Seconds that reading one input may take."""

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
        import gzip

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


# --- reading


def read(path: str) -> dict[str, object]:
    """What becomes of an input, as JSON."""
    from dinsegment.errors import DINSegmentError
    from dinsegment.images import read_volumes

    try:
        volumes = read_volumes(path)
    except DINSegmentError as error:
        return {"refused": str(error)}
    except BaseException as error:
        return {"wrong": f"{type(error).__name__}: {error}"}
    digest = hashlib.sha256(b"".join(volume.array.tobytes() for volume in volumes)).hexdigest()
    return {
        "voxels": digest,
        "shape": volumes[0].shape,
        "grid": volumes[0].ijk_to_ras.tolist(),
        "warnings": volumes[0].warnings,
    }


def serve() -> None:
    """Reads each path that comes in, and says what became of it."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # C libraries print where they like
    for line in sys.stdin:
        answers.write(json.dumps(read(line.rstrip("\n"))) + "\n")
        answers.flush()


class Reader:
    """A process that reads inputs, with fresh memory of one content; it is started again when it has died."""

    def __init__(self, fill: int) -> None:
        self._fill, self._process = fill, None

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

    def ask(self, path: Path) -> dict[str, object]:
        if self._process is None or self._process.poll() is not None:
            self._start()
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        try:
            answer = self._answers.get(timeout=PATIENCE)
        except queue.Empty:
            self.stop()
            return {"wrong": f"no answer within {PATIENCE:g} s"}
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


def segmented(path: Path, output: Path, shape: list[int], grid: list[list[float]]) -> str:
    """What is wrong with what the program makes of an input; "" if nothing is."""
    command = [sys.executable, "-m", "dinsegment.cli", "segment", str(path), "--task", "heart", "--output", str(output)]
    done = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True, check=False)
    if done.returncode == 2:
        alone = done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1 and not output.exists()
        return "" if alone else f"exit code 2, but: {done.stderr[-300:]}"
    if done.returncode:
        return f"exit code {done.returncode}: {done.stderr[-300:]}"
    from dinsegment.images import read_volume

    labels = read_volume(output / "segmentation.seg.nrrd")
    size = np.abs(np.array(grid)).max()
    same = labels.shape == tuple(shape) and np.allclose(labels.ijk_to_ras, grid, rtol=0, atol=1e-5 * max(size, 1))
    return "" if same else "the labels lie elsewhere"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="the reference images")
    parser.add_argument("--count", type=int, default=2000, help="inputs")
    parser.add_argument("--seed", type=int, default=0, help="of what is damaged")
    parser.add_argument("--segment", type=int, default=40, help="how many of those that can be read are segmented")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return 0
    chance, counts, found = random.Random(options.seed), Counter(), []
    readers = [Reader(0x55), Reader(0xAA)]
    folder = Path(tempfile.mkdtemp(prefix="damage-"))
    (folder / "whole").mkdir()
    sources = write_inputs(options.data, folder / "whole")
    undamaged = {source: readers[0].ask(source) for source in sources}
    assert all("voxels" in answer for answer in undamaged.values()), undamaged
    to_segment = options.segment
    for number in range(options.count):
        source = sources[number % len(sources)]
        place = folder / f"{number:05d}"
        header_damaged = damage(source, place, chance)
        path = place if source.is_dir() else place / source.name
        before = digests(place)
        answers = [reader.ask(path) for reader in readers]
        wrong = list(complaints(answers, undamaged[source], header_damaged))
        answer, whole = answers[0], undamaged[source]
        if "refused" in answer:
            counts["refused"] += 1
        elif (answer.get("voxels"), answer.get("grid")) == (whole["voxels"], whole["grid"]):
            counts["read as if undamaged"] += 1
        elif "voxels" in answer:
            counts["read with other voxels" if answer["grid"] == whole["grid"] else "read on another grid"] += 1
        changed = "voxels" in answer and answer["grid"] != whole["grid"]
        if to_segment > 0 and not wrong and (changed or number % 50 == 0):
            to_segment -= 1
            counts["segmented"] += 1
            output = folder / "out"
            if complaint := segmented(path, output, answer.get("shape", []), answer.get("grid", [])):
                wrong.append(complaint)
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
