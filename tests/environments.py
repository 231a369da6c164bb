"""Real virtual environments for tests, made without a network: pydantic is linked in from the one that tests run in."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

PYDANTIC = ("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection")
"""What an environment has in which pydantic alone was installed."""

OLDEST = Path(sys.prefix) / "oldest"
"""An environment with the oldest pydantic that workers can use; `make test` makes it."""


class Environment:
    """A virtual environment.

    Args:
        folder: where it is made.
        pydantic: whether pydantic is in it.
    """

    def __init__(self, folder: Path, *, pydantic: bool = True) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.packages = next((folder / "lib").glob("python3*")) / "site-packages"
        if pydantic:
            for name in PYDANTIC:
                spec = find_spec(name)
                assert spec is not None and spec.origin is not None
                home = Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)
                (self.packages / home.name).symlink_to(home)

    def install(self, wheel: Path) -> None:
        """Install a wheel with pip, from the file alone."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True)

    def says(self, code: str) -> str:
        """Return what some Python prints in it."""
        return subprocess.run([self.python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def wheel(folder: Path, name: str, version: str, code: str) -> Path:
    """Build a wheel with one module.

    Args:
        folder: where the file is made.
        name: of package and module.
        version: of the package.
        code: the module.
    """
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path
