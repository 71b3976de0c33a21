"""Checks what a wheel and an sdist contain.

python .ci/contents.py WHEEL SDIST
"""

import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent
PACKAGE = {
    str(file.relative_to(ROOT))
    for file in (ROOT / "keras_adaptive").rglob("*")
    if file.suffix == ".py" or file.name == "py.typed"
}
EXPERIMENTS = {str(f.relative_to(ROOT)) for f in (ROOT / "experiments").glob("*.py")}
FILES_OF_AN_SDIST = {
    "LICENSE",
    "MANIFEST.in",
    "PKG-INFO",
    "README.md",
    "keras_adaptive.egg-info",
    "pyproject.toml",
    "setup.cfg",
}


def names(archive: Path) -> set[str]:
    """Returns the paths of an archive's files, in an sdist below its one folder."""
    if archive.suffix == ".whl":
        return set(zipfile.ZipFile(archive).namelist())
    with tarfile.open(archive) as tar:
        files = [member.name for member in tar if member.isfile()]
    return {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in files}


def check(archive: Path) -> None:
    """Exits with a message if files are missing or do not belong there."""
    found = names(archive)
    top = {PurePosixPath(name).parts[0] for name in found}
    if archive.suffix == ".whl":
        expected = PACKAGE | {f"keras_adaptive/{name}" for name in EXPERIMENTS}
        stray = {t for t in top - {"keras_adaptive"} if not t.endswith(".dist-info")}
        licence = {name for name in found if name.endswith("licenses/LICENSE")}
    else:
        expected = PACKAGE | EXPERIMENTS
        stray = top - FILES_OF_AN_SDIST - {"keras_adaptive", "experiments"}
        licence = found & {"LICENSE"}
    missing = expected - found | (set() if licence else {"LICENSE"})
    if missing or stray:
        sys.exit(
            f"{archive.name} lacks {sorted(missing)} and should not have "
            f"{sorted(stray)}."
        )
    print(f"{archive.name}: {len(found)} files, as they should be")


for argument in sys.argv[1:]:
    check(Path(argument))
