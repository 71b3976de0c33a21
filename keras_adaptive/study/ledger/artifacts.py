"""The files among the artifacts of a study's run."""

from __future__ import annotations

import warnings
from pathlib import Path

from keras_adaptive.errors import needs_extra
from keras_adaptive.study.ledger.connection import (
    UNREACHABLE,
    Tell,
    quiet_mlflow,
    reason,
)
from keras_adaptive.study.ledger.waiting import Teller

with needs_extra("study"):
    import mlflow


class Artifacts:
    """Stores files among the artifacts of a study's run, while MLflow takes them.

    Args:
        run_id: MLflow's id of the run.
        usable: Whether MLflow can be used. If it cannot, no file is tried.
        tell: Takes a line about long waits.
    """

    def __init__(self, run_id: str, usable: bool = True, tell: Tell = print) -> None:
        """Names the run, without a connection."""
        self._run_id = run_id
        self._usable = usable
        self._tell = Teller(tell)

    def attach(self, path: Path, folder: str = "") -> None:
        """Stores a file. After MLflow has failed once, no further file is tried.

        Args:
            path: The file.
            folder: Folder among the artifacts.

        Warns:
            UserWarning: If MLflow does not take this file and those after it. They
                stay in their places.
        """
        if not self._usable:
            return
        try:
            with self._tell.waiting(), quiet_mlflow():
                mlflow.MlflowClient().log_artifact(self._run_id, str(path), folder)
        except UNREACHABLE as error:
            self._usable = False
            warnings.warn(
                f"MLflow takes no files ({reason(error)}): {path} is not attached to "
                "the study's run, nor is any file after it. The files stay in their "
                "folders.",
                stacklevel=3,
            )
