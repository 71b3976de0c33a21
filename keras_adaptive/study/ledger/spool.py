"""A folder of runs that wait until MLflow can be reached."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from keras_adaptive.errors import InputError
from keras_adaptive.study.ledger.record import Record


class Spool:
    """Runs as JSON files, one file a run.

    Args:
        folder: The folder; it is made with the first run.
    """

    def __init__(self, folder: Path) -> None:
        """Names the folder, without making it."""
        self.folder = folder

    def check(self) -> None:
        """Checks that the folder can be written.

        Raises:
            InputError: If it cannot.
        """
        folders = self.folder, self.folder.parent
        new = [folder for folder in folders if not folder.exists()]
        with self._usable():
            self.folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.folder):
                pass
        for folder in new:
            with suppress(OSError):
                folder.rmdir()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"The folder {self.folder.absolute()} cannot be used: {error}. It "
                "keeps the runs that MLflow does not take. Free space there or make it "
                "writable, or start the study in another folder or with another "
                "'spool'. The runs up to here are kept."
            ) from error

    def add(self, record: Record) -> None:
        """Stores a run. Its file appears at once and whole.

        Raises:
            InputError: If the folder cannot be used.
        """
        with self._usable():
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"{record.key}.part"
            part.write_text(json.dumps(record.to_json()), encoding="utf-8")
            part.replace(part.with_suffix(".json"))

    @property
    def files(self) -> list[Path]:
        """The files of the runs that wait."""
        return sorted(self.folder.glob("*.json"))

    def records(self, tell: Callable[[str], None]) -> dict[Path, Record]:
        """Returns the runs that wait, by their files.

        A file that does not hold a whole run gets the ending `.broken`.

        Args:
            tell: Takes a line about each such file.

        Raises:
            InputError: If the folder cannot be used.
        """
        whole = {}
        with self._usable():
            for file in self.files:
                try:
                    text = json.loads(file.read_text(encoding="utf-8"))
                    whole[file] = Record.from_json(text)
                except (ValueError, LookupError, TypeError, AttributeError) as error:
                    broken = file.replace(file.with_suffix(".broken"))
                    tell(
                        f"The file {file} does not hold a whole run ({error!r}). It is "
                        f"now {broken.name}, and the run is made again."
                    )
        return whole

    def remove(self, key: str) -> None:
        """Deletes the file of a run, if there is one.

        Raises:
            InputError: If the folder cannot be used.
        """
        with self._usable():
            (self.folder / f"{key}.json").unlink(missing_ok=True)
