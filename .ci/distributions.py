"""Check the names and contents of the source archive and the wheel in a folder."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

dist = Path(sys.argv[1])
version = re.search('__version__ = "(.+)"', Path("skcoft/_version.py").read_text())[1]
with tarfile.open(dist / f"skcoft-{version}.tar.gz") as archive:
    source = {name.partition("/")[2] for name in archive.getnames()}
with zipfile.ZipFile(dist / f"skcoft-{version}-py3-none-any.whl") as archive:
    wheel = set(archive.namelist())

tracked = subprocess.check_output(["git", "ls-files"], text=True).split()
forgotten = {name for name in tracked if not name.startswith(".")} - source
assert not forgotten, f"not in the source archive: {forgotten}"
package = {name for name in tracked if name.startswith("skcoft/")}
others = {name for name in wheel if not name.startswith(f"skcoft-{version}.dist-info/")}
assert others == package, f"wheel and package differ: {others ^ package}"
