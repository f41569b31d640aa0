"""
Colour and depth together
=========================

A photograph hardly shows that a plate bulges, a depth camera does not see a stain. Where every
part has several aligned pictures, a detector takes them together: X has the images of each by
name.
"""

import matplotlib.pyplot as plt
import numpy as np

from skcoft import COFTDetector
from skcoft.datasets import make_plates

plates = make_plates(18, 4, size=192, random_state=3)
X = {"colour": plates.images, "depth": plates.depths / 65535}

# %%
# The last four plates have a scratch, a stain, a dent and a hole that is missing. Two others
# bulge, by less than a hundredth of their length and so gently that no photograph shows it:

rows, columns = np.mgrid[:192, :192] / 192
for depth, (row, column) in zip(X["depth"][16:18], [(0.28, 0.58), (0.7, 0.36)], strict=True):
    depth += 0.08 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 0.05**2))
X["depth"] = X["depth"].clip(0, 1)
kinds = [*["good"] * 8, "bulge", "bulge", *plates.kinds[18:]]

# %%
# One detector of each, and one of both: every picture has a network and densities of its own, and
# all scores are brought to one scale by held-out shots. The networks stay as they are here, to
# save time.


def fit_and_decide(names):
    """Distance of the plates 8 to 21 from the threshold of the first 8, in its deviations."""
    shots, rest = ({name: X[name][part] for name in names} for part in (slice(8), slice(8, None)))
    if len(names) == 1:
        shots, rest = shots[names[0]], rest[names[0]]
    detector = COFTDetector(max_iter=0, random_state=0).fit(shots)
    maps = detector.anomaly_map(rest)
    return detector.decision_function(rest) / detector.calibration_scores_.std(), maps


found = {" and ".join(names): fit_and_decide(names) for names in (["colour"], ["depth"], [*X])}
for i, kind in enumerate(kinds):
    if kind != "good":
        told = [name for name, (decisions, _) in found.items() if decisions[i] < 0]
        print(f"{kind} is told by {'; '.join(told) or 'none'}")

# %%
# A plate that bulges and one with a stain, and where the detector of both sees something:

figure, axes = plt.subplots(2, 3, figsize=(8.6, 5.6), layout="constrained")
maps = found["colour and depth"][1]
for row, kind in zip(axes, ("bulge", "stain"), strict=True):
    i = kinds.index(kind)
    row[0].imshow(X["colour"][8 + i])
    row[1].imshow(X["depth"][8 + i], cmap="gray")
    drawn = row[2].imshow(maps[i], vmin=0, vmax=8)
    row[0].set_ylabel(kind)
for ax, title in zip(axes[0], ("colour", "depth", "anomaly map of both"), strict=True):
    ax.set_title(title)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
figure.colorbar(drawn, ax=axes[:, 2], shrink=0.8, label="deviations below the shots")
plt.show()
