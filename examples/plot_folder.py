"""
From a folder of photographs to a report
========================================

Read a folder of photographs, fit a detector, and write a model file, a table of scores and a
report. The model file is self-contained: to use it, you need no training images, no network
connection and no GPU.
"""

# %%
# Make a folder of synthetic photographs of a machined plate, with and without defects. The files
# are in the folders that many data sets use: ``train/good``, ``test/good``, ``test/scratch`` and
# so on. You can use your own photographs instead.

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from skcoft import COFTDetector
from skcoft.datasets import load_folder, make_plates
from skcoft.plotting import AnomalyMapDisplay
from skcoft.report import score_images, write_report, write_scores

temporary = TemporaryDirectory()
photo_folder, output_folder = (Path(temporary.name, name) for name in ("photos", "output"))
output_folder.mkdir()
plates = make_plates(16, 12, size=128, random_state=1)
for i, (image, kind) in enumerate(zip(plates.images, plates.kinds, strict=True)):
    file = photo_folder / ("train" if i < 8 else "test") / kind / f"{i:02d}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)

# %%
# ``load_folder`` reads the path, split and kind of each photograph from the folder names. The
# detector accepts paths and opens each file when needed. Save the fitted detector to one file.

data = load_folder(photo_folder)
train = data.split == "train"
detector = COFTDetector(max_iter=2, random_state=0).fit(data.paths[train])
detector.save(output_folder / "plates.skcoft")
print(f"fitted on {train.sum()} photographs, in {np.unique(data.kinds[train])}")

# %%
# Load the file, for example on another machine, and score the other photographs. One of them is an
# unreadable file. The other photographs are scored all the same. The unreadable file is reported,
# and it is not labelled normal.

loaded = COFTDetector.load(output_folder / "plates.skcoft", device="cpu")
broken = photo_folder / "broken.png"
broken.write_bytes(b"half a file")
paths = [*data.paths[~train], str(broken)]
results = score_images(loaded, paths)
write_scores(results, output_folder / "scores.csv", paths)
write_report(loaded, paths, output_folder / "report.html", worst=3)

kinds = data.kinds[~train]
for kind in np.unique(kinds):
    flagged = results.labels[:-1][kinds == kind] == -1
    print(f"{kind}: {flagged.sum()} of {len(flagged)} flagged")
error = results.errors[-1].replace(str(broken), broken.name)
print(f"{broken.name}: {results.labels[-1]}, {error}")
print("written:", ", ".join(sorted(file.name for file in output_folder.iterdir())))

# %%
# Plot the eight most anomalous photographs. The report contains the first three of them, because
# ``worst=3``. Each caption is the kind of defect from the folder name. Outlines mark regions more
# than three standard deviations above normal.

worst = np.argsort(results.scores[:-1])[:8]
AnomalyMapDisplay.from_estimator(
    loaded,
    [paths[i] for i in worst],
    captions=[kinds[i].replace("_", " ") for i in worst],
    threshold=3,
    n_cols=4,
)
temporary.cleanup()
plt.show()
