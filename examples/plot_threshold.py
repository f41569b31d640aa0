"""
Guarantee a false positive rate
===============================

"Stop the line for at most one good part in a hundred." A detector fitted on eight training images
cannot guarantee this from these images alone. Calibration images can: more photographs of good
parts, which the detector was not fitted on.
"""

# %%
# Make synthetic photographs of a machined plate: 8 *shots* (training images), 99 good plates that
# set the threshold, and 200 test images, half of them with a defect. The images are small and the
# backbone is the smaller of the two that need no download, so this runs in seconds.

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
# The automatic threshold is estimated from the held-out scores of the 8 shots. ``set_threshold``
# sets a threshold that flags a new good plate with a probability of at most ``max_fpr``. It needs
# 19 calibration images for 5 % and 99 for 1 %. The smaller ``max_fpr`` is, the more defects are
# missed.

thresholds = {"automatic": detector.offset_}
for max_fpr in (0.05, 0.01):
    detector.set_threshold(calibration, max_fpr=max_fpr)
    thresholds[f"max_fpr={max_fpr}"] = detector.offset_
for name, threshold in thresholds.items():
    good, defective = (np.mean(scores[y == label] < threshold) for label in (1, -1))
    print(f"{name:13} {good:4.0%} of good plates flagged, {defective:4.0%} of defective ones")

# %%
# The guarantee holds on average over many random samples of plates. A single sample may exceed it
# slightly. The left plot shows every score and the three thresholds. The right plot compares the
# guaranteed rate with the measured rate for every ``max_fpr``. It uses the p-values:
# ``predict_pvalue`` is at most ``max_fpr`` exactly if the threshold for this ``max_fpr`` flags the
# image.

pvalues = detector.predict_pvalue(X)
figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4.2), width_ratios=[1.5, 1], layout="constrained"
)
ScoreDisplay.from_predictions(
    scores, y, calibration_scores=detector.calibration_scores_, ax=left, pvalues=False
)
for (name, threshold), linestyle in zip(thresholds.items(), (":", "--", "-"), strict=True):
    left.axvline(threshold, color="black", linestyle=linestyle, linewidth=1.2, label=name)
left.legend(loc="upper left", fontsize="small")
left.set_xlim(left=np.quantile(scores, 0.03))
rates = np.arange(1, 31) / 100
for label, name, style in ((1, "good", "C0-"), (-1, "defective", "C1--")):
    flagged = [np.mean(pvalues[y == label] <= rate) for rate in rates]
    right.plot(rates, flagged, style, drawstyle="steps-post", label=f"{name} test plates")
right.plot(rates, rates, color="gray", linewidth=1, label="guaranteed maximum")
right.set(xlabel="max_fpr", ylabel="share of plates flagged", ylim=(0, 1.02))
right.legend(loc="center right", fontsize="small")
plt.show()
