"""Serve like `pullcord serve`, with some constants changed, so that no test has to wait for a minute to pass.

Its one argument is JSON: data_dir, flows, workers, and constants as `{"module": {"NAME": value}}`. Where
`PULLCORD_TEST_CLOCK` names a file, the server's clock is ahead by as many seconds as that says. Where
`PULLCORD_TEST_PACE` is a moment in microseconds and a rate, it was right then and is so many times as fast since.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from pullcord.api.server import serve
from pullcord.clock import SystemClock
from pullcord.settings import load_settings


def main() -> None:
    """Serve until a signal comes."""
    what = json.loads(sys.argv[1])
    for module, constants in what["constants"].items():
        for name, value in constants.items():
            getattr(importlib.import_module(module), name)
            setattr(importlib.import_module(module), name, value)
    clock = os.environ.get("PULLCORD_TEST_CLOCK")
    if clock is not None:
        setattr(SystemClock, "now", lambda _: time.time_ns() // 1000 + int(Path(clock).read_text()) * 1_000_000)  # noqa: B010
    pace = os.environ.get("PULLCORD_TEST_PACE")
    if pace is not None:
        began, rate = int(pace.split()[0]), float(pace.split()[1])
        fast = lambda _: began + round((time.time_ns() // 1000 - began) * rate)  # noqa: E731
        setattr(SystemClock, "now", fast)  # noqa: B010
    told = {"data_dir": Path(what["data_dir"]), "flows": tuple(what["flows"]), "port": 0, "workers": what["workers"]}
    settings = replace(load_settings({}), **told)
    serve(settings, reload=False, ready=lambda url, _: print(url, flush=True))


if __name__ == "__main__":
    main()
