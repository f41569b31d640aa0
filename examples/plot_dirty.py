"""
When the images are not clean
=============================

*Shots* are normal training images. Two things often go wrong with them. One of the shots is not
normal after all, or the shots are of two products. This example shows what the detector does then.
"""

# %%
# Make synthetic photographs of machined plates, and 24 of plates with a defect. One shot of eight
# is wrong: the conveyor was empty. ``fit`` scores each shot by the other shots, and a warning
# names the wrong one.

import warnings

import matplotlib.pyplot as plt
import numpy as np

from skcoft import COFTDetector
from skcoft.datasets import make_plates
from skcoft.plotting import NearestShotsDisplay

plates = make_plates(40, 24, size=128, random_state=2)
normal, defective = plates.images[:40], plates.images[40:]
empty = np.random.default_rng(0).integers(50, 70, (1, 128, 128, 3), dtype=np.uint8)
shots = np.concatenate([normal[:5], empty, normal[5:7]])
with warnings.catch_warnings(record=True) as messages:
    warnings.simplefilter("always")
    detector = COFTDetector("embedded", max_iter=0, random_state=0).fit(shots)
print(messages[0].message)

# %%
# The display of the nearest shots marks it. The other images are not near to it.

images = np.concatenate([empty, normal[8:10], defective[:2]])
captions = ["empty", "normal", "normal", "defective", "defective"]
NearestShotsDisplay.from_estimator(detector, images, shots, n_neighbors=2, captions=captions)
plt.show()

# %%
# The threshold hardly depends on the wrong shot, because it is computed from the median of the
# scores and of their deviations. An image of the empty conveyor is no anomaly for this detector,
# because one of the shots shows it. So leave the shot out and fit again.

clean = COFTDetector("embedded", max_iter=0, random_state=0).fit(normal[:7])
for name, each in {"with the wrong shot": detector, "without it": clean}.items():
    flagged, detected = ((each.predict(x) == -1).mean() for x in (normal[8:], defective))
    print(f"{name}: {detected:.0%} of the defects detected, {flagged:.0%} of the others flagged")

# %%
# Now the plates lie upside down half of the time, so that the light comes from the other side.
# These are two kinds of normal images. One detector is fitted on eight shots of each. It finds
# that the shots form two clusters, and judges each image by the shots of its own cluster.

flipped = normal[:, ::-1], defective[:, ::-1]
both = COFTDetector("embedded", max_iter=0, random_state=0)
both.fit(np.concatenate([normal[:8], flipped[0][8:16]]))
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="constrained")
views = {"as before": (normal[16:], defective), "upside down": (flipped[0][16:], flipped[1])}
for ax, (name, (good, bad)) in zip(axes, views.items(), strict=True):
    for label, x, style in (("normal", good, "C0o"), ("defective", bad, "C1X")):
        decision = both.decision_function(x)
        ax.plot(np.sort(decision), style, label=label)
        print(f"{name}: {np.sum(decision < 0)} of {len(x)} {label} images flagged")
    ax.axhline(0, color="black", linestyle="--", linewidth=1.2, label="threshold")
    ax.set(title=name, xlabel="image, sorted by score")
axes[0].set_ylabel("score - threshold")
axes[0].legend()
plt.show()
