"""Print every lower bound of pyproject.toml as an exact version.

As constraints they make sure that the lowest versions are the ones installed: a bound that cannot
be had, alone or beside the others, is an error instead of a newer version.
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
for requirement in [
    *project["dependencies"],
    *(r for extra in project["optional-dependencies"].values() for r in extra),
]:
    if not requirement.startswith(project["name"]):
        name, floor = re.fullmatch(r"([\w-]+)(?:\[.*\])?[>=]=([\d.]+)", requirement).groups()
        print(f"{name}=={floor}")
