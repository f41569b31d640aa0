"""
A threshold that keeps a promise
================================

"Stop the line for one good part in a hundred, not more." The eight shots that a detector learns
from cannot promise that. Good parts that it has not learned from can.
"""

# %%
# Photographs of a machined plate, which are drawn: 8 to learn from, 99 good ones that set the
# threshold, and 200 that nobody has seen, half of them with a defect. They are small and the
# backbone is the smaller one that needs no download, so that this runs in seconds.

import matplotlib.pyplot as plt
import numpy as np

from skcoft import COFTDetector
from skcoft.datasets import make_plates
from skcoft.plotting import ScoreDisplay

plates = make_plates(8 + 99 + 100, 100, size=96, random_state=0)
shots, calibration, X = np.split(plates.images, [8, 8 + 99])
y = plates.labels[8 + 99 :]
detector = COFTDetector("embedded", image_size=96, max_iter=0, random_state=0).fit(shots)
scores = detector.score_samples(X)

# %%
# The automatic threshold is an estimate from the scores of 8 held-out shots. ``set_threshold``
# sets one that flags an unseen good plate with a probability of ``max_fpr`` at most. For 5 % it
# needs 19 photographs, for 1 % it needs 99. The less you allow for, the more defects pass.

thresholds = {"automatic": detector.offset_}
for max_fpr in (0.05, 0.01):
    detector.set_threshold(calibration, max_fpr=max_fpr)
    thresholds[f"max_fpr={max_fpr}"] = detector.offset_
for name, threshold in thresholds.items():
    good, defective = (np.mean(scores[y == label] < threshold) for label in (1, -1))
    print(f"{name:13} {good:4.0%} of good plates flagged, {defective:4.0%} of defective ones")

# %%
# The promise holds on the average of many such draws of plates; one of them may exceed it a
# little. Left: every score, and the three thresholds. Right: what was promised, and what came of
# it, for every ``max_fpr``, by the p-values: ``predict_pvalue`` is at most ``max_fpr``
# exactly where the threshold of this ``max_fpr`` flags.

pvalues = detector.predict_pvalue(X)
figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4.2), width_ratios=[1.5, 1], layout="constrained"
)
ScoreDisplay.from_predictions(
    scores, y, calibration_scores=detector.calibration_scores_, ax=left, pvalues=False
)
for (name, threshold), style in zip(thresholds.items(), (":", "--", "-"), strict=True):
    left.axvline(threshold, color="black", linestyle=style, linewidth=1.2, label=name)
left.legend(loc="upper left", fontsize="small")
left.set_xlim(left=np.quantile(scores, 0.03))
levels = np.arange(1, 31) / 100
for label, name, look in ((1, "good", "C0-"), (-1, "defective", "C1--")):
    shares = [np.mean(pvalues[y == label] <= level) for level in levels]
    right.plot(levels, shares, look, drawstyle="steps-post", label=f"unseen {name} plates")
right.plot(levels, levels, color="gray", linewidth=1, label="what was promised")
right.set(xlabel="max_fpr", ylabel="share that is flagged", ylim=(0, 1.02))
right.legend(loc="center right", fontsize="small")
plt.show()
