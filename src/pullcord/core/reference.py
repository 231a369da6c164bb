"""How a secret is named where code and settings speak of it; the secret itself is never written down."""

from __future__ import annotations

import re
from typing import Final

REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\x00-\x1f]*")
"""An environment variable, or the absolute path of a file, of the server's."""
