"""
From a folder of photographs to a report
========================================

A folder of photographs comes in; a model file, a table and a report go out. Whoever gets the model
file needs nothing else: no training photographs, no network, no GPU.
"""

# %%
# Here is the folder. Its photographs are drawn, of a machined plate with and without defects, and
# written as files, in the folders that many data sets have: ``train/good``, ``test/good``,
# ``test/scratch`` and so on. Photographs of your own may take their place.

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from skcoft import COFTDetector
from skcoft.datasets import load_folder, make_plates
from skcoft.plotting import AnomalyMapDisplay
from skcoft.report import score_images, write_report, write_scores

workplace = TemporaryDirectory()
here, there = (Path(workplace.name, name) for name in ("here", "there"))
there.mkdir()
plates = make_plates(16, 12, size=128, random_state=1)
for i, (image, kind) in enumerate(zip(plates.images, plates.kinds, strict=True)):
    file = here / "photos" / ("train" if i < 8 else "test") / kind / f"{i:02d}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)

# %%
# ``load_folder`` reads from the folders what each photograph shows. The detector takes paths: it
# opens files when it needs them. What it has learned goes into one file.

data = load_folder(here / "photos")
train = data.split == "train"
detector = COFTDetector(max_iter=2, random_state=0).fit(data.paths[train])
detector.save(there / "plates.skcoft")
print(f"learned from {train.sum()} photographs, in {np.unique(data.kinds[train])}")

# %%
# In another place, the file is loaded and scores the other photographs. One of the files there
# happens to be no photograph. That does not stop the others: it is reported, and not called
# normal.

loaded = COFTDetector.load(there / "plates.skcoft", device="cpu")
broken = here / "photos" / "broken.png"
broken.write_bytes(b"half a file")
paths = [*data.paths[~train], str(broken)]
found = score_images(loaded, paths)
write_scores(found, there / "scores.csv", paths)
write_report(loaded, paths, there / "report.html", worst=3)

kinds = data.kinds[~train]
for kind in np.unique(kinds):
    flagged = found.labels[:-1][kinds == kind] == -1
    print(f"{kind}: {flagged.sum()} of {len(flagged)} flagged")
print(f"{broken.name}: {found.labels[-1]}, {found.errors[-1].replace(str(broken), broken.name)}")
print("written:", ", ".join(sorted(file.name for file in there.iterdir())))

# %%
# The eight least normal photographs; the report shows the first three of them, as it was asked to.
# Above each stands what its folder says it is; lines surround what is three standard deviations
# above normal.

least = np.argsort(found.scores[:-1])[:8]
AnomalyMapDisplay.from_estimator(
    loaded,
    [paths[i] for i in least],
    captions=[kinds[i].replace("_", " ") for i in least],
    threshold=3,
    n_cols=4,
)
workplace.cleanup()
plt.show()
