"""
One material is normal
======================

Eight pieces of a photo of a brick wall are the normal images. The test images are pieces of the
other half of the wall, and pieces of two other materials, grass and gravel.

The photos come with scikit-image, the weights of the backbone were installed along with skcoft, so
everything runs offline.
"""

# %%

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline

from skcoft import COFTDetector, COFTEmbedder

SIZE = 96
rng = np.random.default_rng(0)


def pieces(photo, n):
    """Cut n random pieces out of a photo."""
    corners = rng.integers(0, np.array(photo.shape) - SIZE, (n, 2))
    return np.stack([photo[r : r + SIZE, c : c + SIZE] for r, c in corners])


wall = data.brick()
shots = pieces(wall[:, :256], 8)  # the left half is for fitting,
normal = pieces(wall[:, 256:], 40)  # the right half for testing
X = np.concatenate([normal, pieces(data.grass(), 20), pieces(data.gravel(), 20)])
y = np.r_[np.ones(40), -np.ones(40)]

# %%
# The detector whole, and the fine-tuned embedder in a pipeline with scikit-learn's local
# outlier factor.

detector = COFTDetector(random_state=0).fit(shots)
pipeline = make_pipeline(COFTEmbedder(random_state=0), LocalOutlierFactor(3, novelty=True))
pipeline.fit(shots)
decision = detector.decision_function(X)
print(f"AUROC of the detector: {detector.score(X, y):.3f}")
print(f"AUROC of the pipeline: {roc_auc_score(y, pipeline.decision_function(X)):.3f}")
for name, part in (("wall", slice(40)), ("grass", slice(40, 60)), ("gravel", slice(60, 80))):
    print(f"{name} flagged: {np.mean(decision[part] < 0):.0%}")

# %%
# The shots, the test pieces at both ends of the ranking, every score, and the loss terms.

figure = plt.figure(figsize=(10, 6.5), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=[2.3, 1])
order = np.argsort(decision)
rows = {
    "shots": (shots, None),
    "most normal": (X[order[::-1][:8]], decision[order[::-1][:8]]),
    "most anomalous": (X[order[:8]], decision[order[:8]]),
}
for axes_row, (title, (images, values)) in zip(top.subplots(3, 8), rows.items(), strict=True):
    for i, (axes, image) in enumerate(zip(axes_row, images, strict=True)):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set(xticks=[], yticks=[])
        if values is not None:
            axes.set_title(f"{values[i]:.0f}", fontsize=8)
    axes_row[0].set_ylabel(title)
left, right = bottom.subplots(1, 2)
bins = np.linspace(decision.min(), decision.max(), 40)
left.hist(decision[:40], bins, label="wall", color="#0b7a75")
left.hist(decision[40:60], bins, alpha=0.7, label="grass", color="#edae49")
left.hist(decision[60:], bins, alpha=0.7, label="gravel", color="#d1495b")
left.axvline(0, color="black", linestyle="--", label="threshold")
left.set(xlabel="decision function", ylabel="test pieces")
left.legend()
for term in ("contrastive", "positive", "negative"):
    right.plot(detector.history_[term] / detector.history_[term][0], label=term)
right.set(xlabel="iteration", ylabel="loss term / first value")
right.legend(loc="lower left")
plt.show()
