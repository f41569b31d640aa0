"""
Combine colour and depth images
===============================

A photograph hardly shows a bulge in a plate. A depth camera does not show a stain. If each part
has several aligned images, one detector can use them together: pass a dict with the images of each
modality by name.
"""

import matplotlib.pyplot as plt
import numpy as np

from skcoft import COFTDetector
from skcoft.datasets import make_plates

plates = make_plates(18, 4, size=192, random_state=3)
X = {"colour": plates.images, "depth": plates.depths / 65535}

# %%
# The last four plates have a scratch, a stain, a dent and a missing hole. Add a bulge to two other
# plates. It is lower than a hundredth of the plate's length and so gentle that no photograph shows
# it:

rows, columns = np.mgrid[:192, :192] / 192
for depth, (row, column) in zip(X["depth"][16:18], [(0.28, 0.58), (0.7, 0.36)], strict=True):
    depth += 0.08 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 0.05**2))
X["depth"] = X["depth"].clip(0, 1)
kinds = [*["good"] * 8, "bulge", "bulge", *plates.kinds[18:]]

# %%
# Fit one detector to each modality and one to both. Each modality has its own network and
# densities. Held-out scores standardise all scores before they are combined. The networks are
# frozen here, to save time.


def fit_and_score(modalities):
    """Fit on plates 0 to 7; return the decisions and anomaly maps of the other plates.

    Decisions are distances from the threshold, in standard deviations of the calibration scores.
    """
    train, test = (
        {name: X[name][samples] for name in modalities} for samples in (slice(8), slice(8, None))
    )
    if len(modalities) == 1:
        train, test = train[modalities[0]], test[modalities[0]]
    detector = COFTDetector(max_iter=0, random_state=0).fit(train)
    maps = detector.anomaly_map(test)
    return detector.decision_function(test) / detector.calibration_scores_.std(), maps


results = {" and ".join(names): fit_and_score(names) for names in (["colour"], ["depth"], [*X])}
for i, kind in enumerate(kinds):
    if kind != "good":
        detected_by = [name for name, (decisions, _) in results.items() if decisions[i] < 0]
        print(f"{kind} is detected by {'; '.join(detected_by) or 'none'}")

# %%
# Plot a plate with a bulge and one with a stain, with the anomaly map of both modalities:

figure, axes = plt.subplots(2, 3, figsize=(8.6, 5.6), layout="constrained")
maps = results["colour and depth"][1]
for row, kind in zip(axes, ("bulge", "stain"), strict=True):
    i = kinds.index(kind)
    row[0].imshow(X["colour"][8 + i])
    row[1].imshow(X["depth"][8 + i], cmap="gray")
    map_image = row[2].imshow(maps[i], vmin=0, vmax=8)
    row[0].set_ylabel(kind)
for ax, title in zip(axes[0], ("colour", "depth", "anomaly map of both"), strict=True):
    ax.set_title(title)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
figure.colorbar(map_image, ax=axes[:, 2], shrink=0.8, label="anomaly, in standard deviations")
plt.show()
