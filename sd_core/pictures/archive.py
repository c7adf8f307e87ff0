"""The files of a folder or a .zip, listed and read in one way. Nothing of an archive is ever written to disk."""

import hashlib
import os
import re
import stat
import struct
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sd_core.errors import DataError

MAX_FILES = 1_000_000  # in one archive; its list alone takes 0.5 GB
MAX_FILE_BYTES = 512 * 2**20  # of one file, unpacked in memory
MAX_TOTAL_BYTES = 256 * 2**30  # of an archive, unpacked
MAX_RATIO = 200  # unpacked to packed; pictures are compressed already and stay below 2, blank bitmaps below 200
RATIO_MATTERS_FROM = 2**30  # bytes unpacked; what is smaller is read in seconds, whatever its ratio

_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why, in one plain phrase."""

    file: str
    reason: str


class FolderFiles:
    """The files under a folder. names: relative, with forward slashes, sorted; links to folders are not followed."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self.skipped: tuple[Skipped, ...] = ()
        found: dict[str, tuple[int, int]] = {}
        for folder, folders, files in os.walk(path):
            folders[:] = [name for name in folders if not _hidden(name)]
            for file in files:
                if _hidden(file):
                    continue
                try:
                    status = os.stat(os.path.join(folder, file))
                except OSError:  # a dangling link
                    continue
                if stat.S_ISREG(status.st_mode):
                    found[Path(folder, file).relative_to(path).as_posix()] = (status.st_size, status.st_mtime_ns)
        self.names = sorted(found)
        self.name_set = frozenset(found)
        self._sizes = {name: size for name, (size, _) in found.items()}
        listing = "\n".join(f"{name}\0{found[name]}" for name in self.names)
        self.fingerprint = hashlib.sha256(f"{path.resolve()}\n{listing}".encode("utf-8", "surrogateescape")).hexdigest()

    def read(self, name: str, most: int | None = None) -> bytes:
        """A file, or its first `most` bytes."""
        if most is None and self._sizes[name] > MAX_FILE_BYTES:
            raise ValueError("the file is too large")
        with open(self._root / name, "rb") as file:
            return file.read(most)

    def close(self) -> None:
        """A folder needs no closing."""


class ZipFiles:
    """The files in a .zip, as FolderFiles; entries that no honest archive of pictures has are skipped.

    Raises DataError for what is no archive, or one that would unpack to more than the limits above.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
            status = path.stat()
        except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, struct.error) as error:
            said = "{file} cannot be read as a .zip ({reason}); pack the pictures again."
            raise DataError(said, file=path.name, reason=error) from error
        try:
            infos = [info for info in self._zip.infolist() if not info.is_dir()]
            _check_limits(path.name, infos, status.st_size)
        except DataError:
            self._zip.close()
            raise
        self._infos: dict[str, zipfile.ZipInfo] = {}
        skipped = []
        for info in infos:
            if reason := _refusal(info):
                skipped.append(Skipped(info.filename, reason))
            elif not any(_hidden(part) for part in info.filename.split("/")):
                self._infos[info.filename] = info
        self.names = sorted(self._infos)
        self.name_set = frozenset(self._infos)
        self.skipped = tuple(skipped)
        identity = f"{path.resolve()}\n{status.st_size}\n{status.st_mtime_ns}"
        self.fingerprint = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
        self._lock = threading.Lock()

    def read(self, name: str, most: int | None = None) -> bytes:
        """A file, or its first `most` bytes."""
        # Decoding a picture takes longer than unpacking it, so the threads seldom wait here.
        with self._lock, self._zip.open(self._infos[name]) as file:
            return file.read(most)

    def close(self) -> None:
        self._zip.close()


Files = FolderFiles | ZipFiles


def open_files(path: Path) -> Files:
    """List a folder or .zip. Raises DataError when there is none at `path`."""
    try:
        if path.is_dir():
            return FolderFiles(path)
        if path.is_file():
            if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
                return ZipFiles(path)
            raise DataError(f"{path.name} is neither a folder nor a .zip; put the pictures into one of these.")
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read ({error}); check its name and permissions.") from error
    raise DataError(f"There is no folder or .zip at {path}; check the path.")


def _check_limits(name: str, infos: list[zipfile.ZipInfo], packed: int) -> None:
    total = sum(info.file_size for info in infos)
    if len(infos) > MAX_FILES:
        said = "{file} holds {count:,} files, more than {most:,}; split it."
        raise DataError(said, file=name, count=len(infos), most=MAX_FILES)
    if total > MAX_TOTAL_BYTES:
        said = "{file} would unpack to {size:,.0f} GiB, which is too much; split it."
        raise DataError(said, file=name, size=total / 2**30)
    if total > RATIO_MATTERS_FROM and total > MAX_RATIO * packed:
        said = "{file} would unpack to {times:,.0f} times its size, as no pictures do; it is refused."
        raise DataError(said, file=name, times=total / packed)


def _refusal(info: zipfile.ZipInfo) -> str | None:
    """Why an entry is not to be read, if so."""
    path = PurePosixPath(info.filename.replace("\\", "/"))
    if path.is_absolute() or re.match(r"[A-Za-z]:", info.filename) or ".." in path.parts:
        return "its path leads out of the archive"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "it is a link, not a file"
    if info.flag_bits & 0x1:
        return "it is encrypted"
    if path.suffix.lower() in _ARCHIVES:
        return "it is an archive inside the archive"
    if info.file_size > MAX_FILE_BYTES:
        return f"it is larger than {MAX_FILE_BYTES // 2**20} MiB"
    return None


def _hidden(name: str) -> bool:
    """Files that systems leave behind and people do not see."""
    return name.startswith(".") or name == "__MACOSX"
