"""
A few anomalies that somebody has labelled
==========================================

A detector needs none. Where a kind of defect is so faint that it hides in what normal images
differ by, a handful of examples helps: ``negatives="labelled"`` lets the score know them. Kinds
that nobody has labelled are told as before.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from skcoft import COFTDetector
from skcoft.datasets import make_plates

plates = make_plates(68, 8, size=128, random_state=0)
shots, sound, others = plates.images[:8], plates.images[8:38], plates.images[68:]

# %%
# Thirty plates have a spot where the brushing is worn, softer and of the same colour:

rng = np.random.default_rng(0)
rows, columns = np.mgrid[:128, :128]


def wear(image):
    """Soften a round spot of an image."""
    row, column = rng.uniform(45, 83, 2)
    spot = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 12**2))[..., None]
    soft = gaussian_filter(image.astype(float), (2, 2, 0))
    return (image * (1 - spot) + soft * spot).round().astype(np.uint8)


worn = np.stack([wear(image) for image in plates.images[38:68]])
examples, unseen = worn[:10], worn[10:]

# %%
# 0, 1, 5 and 10 of them are labelled, -1 among +1. How well are the other twenty told from sound
# plates, and how well plates with scratches, stains, dents and missing holes?

counts = 0, 1, 5, 10
areas = []
for count in counts:
    X = np.concatenate([shots, examples[:count]])
    y = np.repeat([1, -1], [len(shots), count])
    negatives = "labelled" if count else "cutpaste"
    detector = COFTDetector(negatives=negatives, max_iter=0, random_state=0).fit(X, y)
    scores = [detector.score_samples(images) for images in (sound, unseen, others)]
    truth = [np.repeat([1, 0], [len(scores[0]), len(kind)]) for kind in scores[1:]]
    found = [
        roc_auc_score(labels, np.concatenate([scores[0], kind]))
        for labels, kind in zip(truth, scores[1:], strict=True)
    ]
    print(f"{count} labelled: worn {found[0]:.3f}, other kinds {found[1]:.3f}")
    areas.append(found)

# %%

figure, axes = plt.subplots(
    1, 3, figsize=(10, 3.4), layout="constrained", width_ratios=(1, 1, 1.5)
)
for ax, image, title in zip(axes, (plates.images[38], worn[0]), ("sound", "worn"), strict=False):
    ax.imshow(image)
    ax.set(title=title, xticks=[], yticks=[])
same, other = np.transpose(areas)
axes[2].plot(counts, other, "s-", color="tab:gray", label="other kinds")
axes[2].plot(counts, same, "o-", color="tab:blue", label="worn")
axes[2].set(xlabel="labelled plates that are worn", ylabel="area under the ROC curve")
axes[2].set(xticks=counts, ylim=(0.8, 1.01))
axes[2].legend(loc="lower right")
axes[2].spines[["top", "right"]].set_visible(False)
plt.show()
