"""How a location's interpreter is started: with this installation's package in reach, and nothing else of it."""

from __future__ import annotations

import os
import sys
import zoneinfo
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pullcord.core.errors import PullcordRuntimeError

START: Final = "from pullcord.worker.start import main; main(int(sys.argv[2]), int(sys.argv[3]))"
"""What a template process executes; its arguments are a descriptor and the server's process id."""

# Readable by any Python, so that one that is too old can say so. The first entry of the path may be the current folder,
# whose files must not pass for modules (the option -P for that is as new as Python 3.11).
_BEGIN: Final = """\
import sys
if sys.path[0] == "":
    del sys.path[0]
if sys.version_info < (3, 11):
    import os
    said = '{"unfit": "it is Python %d.%d; flows need Python 3.11 or newer"}' % sys.version_info[:2]
    os.write(int(sys.argv[2]), said.encode())
    sys.exit(1)
sys.path.insert(0, sys.argv[1])
"""


def expose_package(folder: Path) -> Path:
    """Make a folder in which a foreign interpreter finds the `pullcord` package and what that needs; return it.

    What it needs is cronsim, which is a few files of plain Python, and the zone database's package on a system that has
    no zone database.

    The package's own folder would do only where nothing else is in it: beside an installed package is everything that
    the server has installed, which would hide what the other environment has.

    Args:
        folder: the data folder; it must be this process's own.

    Raises:
        OSError: a link cannot be made.
        PullcordRuntimeError: what it needs is not installed.
    """
    exposed = folder.absolute() / "lib"
    exposed.mkdir(mode=0o700, exist_ok=True)
    lent = ["cronsim"] if any(map(os.path.isdir, zoneinfo.TZPATH)) else ["cronsim", "tzdata"]
    for name in ("pullcord", *lent):
        link, home = exposed / name, _home(name)
        if not (link.is_symlink() and link.readlink() == home):
            fresh = exposed / f"{name}.new"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(home, target_is_directory=True)
            fresh.replace(link)
    return exposed


def _home(name: str) -> Path:
    """Return the folder of an installed package."""
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise PullcordRuntimeError(f"{name} is not installed beside Pullcord; install Pullcord anew")
    return Path(found.submodule_search_locations[0]).absolute()


def command(python: str, exposed: Path, what: str, *arguments: str) -> list[str]:
    """Return the command line that executes some Python in a location's interpreter.

    Args:
        python: the interpreter.
        exposed: where it finds the package.
        what: the Python; `sys` is imported.
        arguments: for it, from `sys.argv[2]`; the first is a descriptor, to which an interpreter that is too old says
            so.
    """
    return [python, "-c", _BEGIN + what, str(exposed), *arguments]


def variables(python: str) -> dict[str, str]:
    """Return the environment for an interpreter; another one's programs go before the server's, as if activated.

    The database's address is the server's own: flows have no business with its password.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment.pop("PULLCORD_DATABASE_URL", None)
    programs = Path(python).parent
    if python != sys.executable and (programs.parent / "pyvenv.cfg").is_file():
        environment.pop("PYTHONHOME", None)
        environment["VIRTUAL_ENV"] = str(programs.parent)
        environment["PATH"] = os.pathsep.join(filter(None, [str(programs), environment.get("PATH")]))
    return environment
