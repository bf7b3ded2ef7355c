"""The one archive that goes up: our code, the prepared run without a secret value, the user's code, the input files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.archive import pack_files
from osiris_core.errors import SealBroken, naming
from osiris_core.user_code import code_files, driver_files, driver_places
from remote import folders
from remote.code_zip import code_zip, squeezed_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import PurePosixPath

    from osiris_core.prepared import PreparedRun
    from remote.resume_files import EarlierFiles

BOOT = (
    "import os,sys;i=os.dup(0);o=os.dup(1);n=os.open(os.devnull,os.O_RDONLY);os.dup2(n,0);os.close(n);os.dup2(2,1);"
    f"w=sys.argv[1];sys.path.insert(0,w+'/{folders.CODE_ZIP}');"
    "from osiris_core.rooms import load_apart as load;load('remote.supervisor').main(w,i,o)"
)
"""The first line of a worker: it takes the wire away from everybody before anything is imported."""

TAKE_IN = """\
import io,os,sys,tarfile
n,b=int(sys.argv[2]),bytearray()
while len(b)<n:
 d=os.read(0,min(n-len(b),1<<20))
 if not d:sys.exit('the package did not arrive')
 b+=d
s={'filter':'data'} if hasattr(tarfile,'data_filter') else {}
tarfile.open(fileobj=io.BytesIO(b)).extractall(sys.argv[1],**s)
del b
"""
"""What comes before that where the package comes over the wire, in front of the first frame."""

EXPAND = f"""\
import lzma,os,sys
z=sys.argv[1]+'/{folders.SQUEEZED_CODE}'
with lzma.open(z) as s,open(z[:-3],'wb') as t:t.write(s.read())
os.unlink(z)
"""
"""And where our code came squeezed."""

PILOT_BOOT = (
    "import sys;sys.path.insert(0,sys.argv[1]);from osiris_core.rooms import load_apart as load;"
    "a=sys.argv[2:];load('remote.pilot').main(a[0],a[1],int(a[2]),*map(float,a[3:]))"
)
"""The first line of a pilot: the zip of our code, then what `pilot.main` takes."""

IN_BAND_BYTES = 1 << 20
"""How large a package may be that is sent in front of the first frame."""


def worker_argv(python: str, work_dir: PurePosixPath, in_band_bytes: int = 0, *, squeezed: bool = False) -> list[str]:
    """
    The command that starts a worker in `work_dir`, where the package is.

    With `in_band_bytes` it is not there yet: the worker reads so many bytes of its standard input, a tar, first.
    `squeezed` as for `pack_bundle`.
    """
    boot = (TAKE_IN if in_band_bytes else "") + (EXPAND if squeezed else "") + BOOT
    return [python, "-I", "-c", boot, str(work_dir), *([str(in_band_bytes)] if in_band_bytes else [])]


@dataclass(frozen=True)
class Bundle:
    """A package on the host: a tar, its size, and the sha256 of the list in it, which has those of all files."""

    path: Path
    size_bytes: int
    package_sha256: str


def pack_bundle(
    prepared: PreparedRun,
    code: Iterable[str],
    target: Path,
    *,
    in_place: Mapping[str, str],
    earlier: EarlierFiles | None = None,
    squeezed: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Bundle:
    """
    Write the package of a run to `target`. Input files get their sha256, in `prepared` too.

    Args:
        in_place: Source paths of input files that need not travel, with where they are in the sandbox; our own code
            may be among them.
        earlier: For a resume: what travels of earlier attempts, and what they left that need not.
        squeezed: Our code is packed as tightly as can be, and expanded by the worker's first line.
        check: Called after each file; what it raises is raised.

    Raises:
        SealBroken: An input file changed after `prepare`, or while it was read.
        PreparationError: A driver cannot be found again in another process.
        OSError: A file cannot be read, or `target` not be written.
    """
    drivers = driver_places(step["driver"] for step in prepared.manifest["steps"])
    inputs = _Inputs(prepared, in_place)
    listed: dict[str, dict[str, Any]] = {}
    with naming(target), target.open("xb") as file:

        def add(files: Iterable[tuple[str, Path | bytes]]) -> None:
            for name, size_bytes, sha256 in pack_files(files, file, end=False):
                listed[name] = {"size_bytes": size_bytes, "sha256": sha256}
                check()

        if squeezed:
            add([(folders.SQUEEZED_CODE, squeezed_code().path)])
            del listed[folders.SQUEEZED_CODE]
            listed[folders.CODE_ZIP] = {"size_bytes": squeezed_code().size_bytes, "sha256": squeezed_code().sha256}
        elif str(code_zip()) not in in_place:
            add([(folders.CODE_ZIP, code_zip())])
        add(inputs.files())
        inputs.seal(listed)
        add(_user_files(code, drivers))
        if earlier is not None:
            add((f"{folders.SESSION_FOLDER}/{name}", path) for name, path in earlier.sent)
            add([(folders.AT_HOME_FILE, json.dumps(sorted(earlier.at_home)).encode())])
        add([(folders.PREPARED_FILE, json.dumps(inputs.prepared_json()).encode())])
        package = json.dumps({"files": listed, "drivers": drivers}).encode()
        add([(folders.PACKAGE_FILE, package)])
        for _ in pack_files([], file):
            pass
    return Bundle(target, target.stat().st_size, listed[folders.PACKAGE_FILE]["sha256"])


def _user_files(code: Iterable[str], drivers: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    taken: set[str] = set()
    for name, path in (*code_files(code), *driver_files(drivers.values())):
        if name not in taken:
            taken.add(name)
            yield f"{folders.CODE_FOLDER}/{name}", path


class _Inputs:
    """Where each input file of a run goes; a source that several steps read travels once."""

    def __init__(self, prepared: PreparedRun, in_place: Mapping[str, str]) -> None:
        self._prepared = prepared
        self._places = dict(in_place)
        self._sent: dict[str, str] = {}
        for file in prepared.input_files:
            if file.source not in self._places:
                name = f"{folders.INPUTS_FOLDER}/{len(self._sent)}/{Path(file.source).name}"
                self._places[file.source] = self._sent[file.source] = name

    def files(self) -> Iterator[tuple[str, Path]]:
        return ((name, Path(source)) for source, name in self._sent.items())

    def seal(self, listed: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over the digests of what was packed; it must be what was sealed."""
        wrong = []
        for file in self._prepared.input_files:
            if (name := self._sent.get(file.source)) is None:
                continue
            sha256 = listed[name]["sha256"]
            if (what := file.changed()) is not None or (file.sha256 and file.sha256 != sha256):
                wrong.append(what or f"{file.source} has other bytes than when the run was prepared")
            file.sha256 = sha256
        if wrong:
            raise SealBroken("; ".join(dict.fromkeys(wrong)) + " (prepare the run again)")

    def prepared_json(self) -> dict[str, Any]:
        """The prepared run with every path as the worker sees it, and nothing of where things are on the host."""
        data = self._prepared.to_json()
        for item in data["input_files"]:
            item["source"] = self._places[item["source"]]
        return {**data, "sources": [], "artifacts_dir": ""}
