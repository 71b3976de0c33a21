"""A folder of runs that wait until MLflow can be reached."""

from __future__ import annotations

import json
from pathlib import Path

from keras_adaptive.study.ledger.record import Record


class Spool:
    """Runs as JSON files, one file a run.

    Args:
        folder: The folder; it is made with the first run.
    """

    def __init__(self, folder: Path) -> None:
        """Names the folder, without making it."""
        self._folder = folder

    def add(self, record: Record) -> None:
        """Stores a run. Its file appears at once and whole."""
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f"{record.key}.part"
        part.write_text(json.dumps(record.to_json()), encoding="utf-8")
        part.replace(part.with_suffix(".json"))

    @property
    def files(self) -> list[Path]:
        """The files of the runs that wait."""
        return sorted(self._folder.glob("*.json"))

    def records(self) -> dict[Path, Record]:
        """Returns the runs that wait, by their files."""
        return {
            file: Record.from_json(json.loads(file.read_text(encoding="utf-8")))
            for file in self.files
        }
