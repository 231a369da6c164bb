"""A flow that is run for each file in a folder; each run stands still until the test sends it on."""

from __future__ import annotations

import os
from pathlib import Path

from witness import meet

import pullcord as pc


@pc.flow(concurrency=None)
def take(path: str) -> str:
    meet(int(os.environ["MEETING"]), Path(path).name)
    return path


inbox = pc.events.files(os.environ["INBOX"], "*.csv", flow=take, settle=0, every="100ms", name="inbox")
