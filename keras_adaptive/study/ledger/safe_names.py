"""Names of metrics and parameters, as MLflow takes them.

MLflow refuses names such as `precision@0.5`. Such a name is stored in a form that
MLflow takes, and the true name becomes a tag of the run.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Mapping

LONGEST_NAME = 200
"""MLflow takes 250 characters, of which tags need some for their prefix."""

UNSAFE = re.compile(r"[^/\w.\- ]")
TRUE_NAME = "true_name."


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Returns the name under which MLflow stores each name.

    A name that MLflow takes stays as it is. In others, `_` replaces what MLflow does
    not take, and names that would become equal get a digest at their end.

    Example:
        >>> safe_names(["loss", "precision@0.5"])["precision@0.5"]
        'precision_0.5'
    """
    wanted = {name: _clean(name) for name in sorted(set(names))}
    safe = {name: name for name, clean in wanted.items() if clean == name}
    changed = {name: clean for name, clean in wanted.items() if clean != name}
    for name, clean in changed.items():
        if clean in safe or list(changed.values()).count(clean) > 1:
            code = name.encode("utf-8", "surrogatepass")
            end = "_" + hashlib.sha256(code).hexdigest()[:8]
            clean = clean[: LONGEST_NAME - len(end)] + end
        safe[name] = clean
    return safe


def tags_of_names(safe: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags that tell the true names.

    Args:
        safe: What `safe_names` returns.
    """
    return {
        TRUE_NAME + stored: json.dumps(true)
        for true, stored in safe.items()
        if stored != true
    }


def true_name(stored: str, tags: Mapping[str, str]) -> str:
    """Returns the true name of what MLflow stores.

    Args:
        stored: The name in MLflow.
        tags: The tags of the run.
    """
    told = tags.get(TRUE_NAME + stored)
    return stored if told is None else str(json.loads(told))


def encodable(text: str) -> str:
    """Returns a text with an escape in the place of what UTF-8 cannot hold.

    File names of an unknown encoding hold such characters.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _clean(name: str) -> str:
    clean = UNSAFE.sub("_", name)[:LONGEST_NAME]
    if not _is_plain_path(clean):
        clean = clean.replace("/", "_")
    if not _is_plain_path(clean):
        clean = clean.replace(".", "_") or "_"
    return clean


def _is_plain_path(name: str) -> bool:
    """Says whether a name, read as a path, is below the current folder and short."""
    below = name != "." and not name.startswith(("..", "/"))
    return below and posixpath.normpath(name) == name
