"""The decorator `typing.override`, also before Python 3.12."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import override as override
elif sys.version_info >= (3, 12):
    from typing import override as override
else:

    def override(method):
        """Marks a method as one that overrides a method of a base class."""
        method.__override__ = True
        return method
