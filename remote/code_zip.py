"""Our own code as one zip, named by the hash of what is in it: it travels with every run, so versions cannot differ."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import lzma
import marshal
import os
import tempfile
import time
import zipfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from osiris_core import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOMS = ("osiris_core", "remote")
LEFT_OUT = ("osiris_core/cli/", "osiris_core/testing/")
UNUSED_S = 30 * 86_400
"""After this long without a use a zip is removed from the cache; it can be made again."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_XZ_END = b"YZ"
_NO_FOLDER = "neither the cache directory nor the temporary directory can be written"
_ROOT = Path(__file__).resolve().parent.parent


@lru_cache(maxsize=1)
def code_zip() -> Path:
    """
    The zip, made once and then taken from the user's cache directory.

    It holds sources, byte code for this version of Python (another one compiles the sources), entries for its
    directories, without which namespace packages cannot be imported from a zip, and our name and version.
    """
    sources = list(_sources())
    name = f"code-{_state(sources)}.zip"
    for folder in _cache_dirs():
        with suppress(OSError):
            if not zipfile.is_zipfile(folder / name):  # a crash may have left it empty
                _keep(folder, name, _zipped(sources))
            return folder / name
    raise OSError(_NO_FOLDER)


class SqueezedCode(NamedTuple):
    """The same as a zip without compression, packed by lzma: half as large. `size_bytes` and `sha256` are the zip's."""

    path: Path
    size_bytes: int
    sha256: str


@lru_cache(maxsize=1)
def squeezed_code() -> SqueezedCode:
    """Made once and cached, as `code_zip` is; making it takes half a second."""
    sources = list(_sources())
    begin = f"code-{_state(sources)}-"
    for folder in _cache_dirs():
        with suppress(OSError):
            for path in folder.glob(f"{begin}*.zip.xz"):
                size_bytes, sha256 = path.name.removeprefix(begin).partition(".")[0].split("-")
                if path.read_bytes().endswith(_XZ_END):  # a crash may have left it empty
                    return SqueezedCode(path, int(size_bytes), sha256)
            content = _zipped(sources, zipfile.ZIP_STORED)
            sha256 = hashlib.sha256(content).hexdigest()
            name = f"{begin}{len(content)}-{sha256}.zip.xz"
            _keep(folder, name, lzma.compress(content))
            return SqueezedCode(folder / name, len(content), sha256)
    raise OSError(_NO_FOLDER)


def _state(sources: list[tuple[str, bytes]]) -> str:
    state = hashlib.sha256(repr((importlib.util.MAGIC_NUMBER, __version__)).encode())
    for name, content in sources:
        state.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return state.hexdigest()[:24]


def _cache_dirs() -> tuple[Path, Path]:
    return _cache_dir(), Path(tempfile.gettempdir(), f"osiris-{os.getuid()}")


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "osiris"


def _keep(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is somebody else's")
    beside = folder / f".{name}.{os.getpid()}"
    try:
        beside.write_bytes(content)
        beside.replace(folder / name)
    finally:
        beside.unlink(missing_ok=True)
    for other in folder.glob("code-*.zip*"):  # those of versions that nobody has used for long
        with suppress(OSError):
            if time.time() - other.stat().st_atime > UNUSED_S:
                other.unlink()


def _sources() -> Iterator[tuple[str, bytes]]:
    archive_path = getattr(globals().get("__loader__"), "archive", None)
    if archive_path is None:
        for room in ROOMS:
            for path in sorted((_ROOT / room).rglob("*.py")):
                name = path.relative_to(_ROOT).as_posix()
                if not name.startswith(LEFT_OUT):
                    yield name, path.read_bytes()
        return
    with zipfile.ZipFile(archive_path) as archive:  # we are in a zip ourselves
        for name in sorted(archive.namelist()):
            if name.endswith(".py") and name.startswith(tuple(f"{room}/" for room in ROOMS)):
                yield name, archive.read(name)


def _zipped(sources: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    files = dict(sources)
    for name, source in sources:
        code = compile(source, name, "exec", dont_inherit=True)
        # Unchecked, because a zip of ours never changes: flags 1, and the hash that nobody looks at.
        header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
        files[f"{name}c"] = header + marshal.dumps(code)
    info = f"osiris_core-{__version__}.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: osiris-core\nVersion: {__version__}\n".encode()
    folders = {f"{parent.as_posix()}/" for name in files for parent in Path(name).parents if parent != Path()}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression, compresslevel=9) as archive:
        for name in sorted({*folders, *files}):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = (0o40755 << 16) | 0x10 if name.endswith("/") else 0o100644 << 16
            entry.compress_type = compression
            archive.writestr(entry, files.get(name, b""), compresslevel=9)
    return target.getvalue()
