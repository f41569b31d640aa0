"""
Learn from a few labelled anomalies
===================================

A detector needs no anomalies. But if a kind of defect is so faint that it hides among the
variation of normal images, a handful of labelled examples helps. ``negatives="labelled"`` uses
them in the score. Other kinds of defects, without labels, are detected almost as well as before.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from skcoft import COFTDetector
from skcoft.datasets import make_plates

plates = make_plates(68, 8, size=128, random_state=0)
shots, good, other_defects = plates.images[:8], plates.images[8:38], plates.images[68:]

# %%
# Thirty plates get a worn spot, where the brushed surface is softer but has the same colour:

rng = np.random.default_rng(0)
rows, columns = np.mgrid[:128, :128]


def add_wear(image):
    """Soften a round spot of an image."""
    row, column = rng.uniform(45, 83, 2)
    spot = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 12**2))[..., None]
    soft = gaussian_filter(image.astype(float), (2, 2, 0))
    return (image * (1 - spot) + soft * spot).round().astype(np.uint8)


worn = np.stack([add_wear(image) for image in plates.images[38:68]])
worn_train, worn_test = worn[:10], worn[10:]

# %%
# Train with 0, 1, 5 and 10 labelled worn plates: -1 for these, +1 for the 8 *shots* (normal
# training images). Then measure how well the detector separates good plates from the twenty other
# worn plates, and from plates with scratches, stains, dents and missing holes.

counts = 0, 1, 5, 10
aurocs = []
for count in counts:
    X = np.concatenate([shots, worn_train[:count]])
    y = np.repeat([1, -1], [len(shots), count])
    negatives = "labelled" if count else "cutpaste"
    detector = COFTDetector(negatives=negatives, max_iter=0, random_state=0).fit(X, y)
    good_scores = detector.score_samples(good)
    aurocs.append([])
    for defects in (worn_test, other_defects):
        defect_scores = detector.score_samples(defects)
        y_test = np.repeat([1, 0], [len(good_scores), len(defect_scores)])
        aurocs[-1].append(roc_auc_score(y_test, np.concatenate([good_scores, defect_scores])))
    print(f"{count} labelled: worn {aurocs[-1][0]:.3f}, other kinds {aurocs[-1][1]:.3f}")

# %%

figure, axes = plt.subplots(
    1, 3, figsize=(10, 3.4), layout="constrained", width_ratios=(1, 1, 1.5)
)
for ax, image, title in zip(axes, (plates.images[38], worn[0]), ("good", "worn"), strict=False):
    ax.imshow(image)
    ax.set(title=title, xticks=[], yticks=[])
worn_auroc, other_auroc = np.transpose(aurocs)
axes[2].plot(counts, other_auroc, "s-", color="tab:gray", label="other kinds")
axes[2].plot(counts, worn_auroc, "o-", color="tab:blue", label="worn")
axes[2].set(xlabel="labelled worn plates", ylabel="area under the ROC curve")
axes[2].set(xticks=counts, ylim=(0.65, 1.01))
axes[2].legend(loc="lower right")
axes[2].spines[["top", "right"]].set_visible(False)
plt.show()
