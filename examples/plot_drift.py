"""
Adapt to new lighting
=====================

A detector is fitted on photographs of parts under one lamp. Then the lamp is moved to the other
side, and every part looks anomalous. A few photographs under the new light fix this without a new
fit.
"""

# %%
# Synthetic photographs of a machined plate arrive one after the other, some with a defect. The
# plate is symmetric, so a photograph turned upside down looks as if the lamp were below. All
# photographs after the first 30 are turned like this. (Mirroring left to right would not simulate
# a new lamp, because the random views of fine-tuning are mirrored left to right.)

import matplotlib.pyplot as plt
import numpy as np

from skcoft import COFTDetector
from skcoft.datasets import make_plates

plates = make_plates(8 + 6 + 50, 10, size=128, random_state=2)
order = np.random.default_rng(0).permutation(60)
shots, new_shots, stream = np.split(plates.images, [8, 14])
stream, y = stream[order], plates.labels[14:][order]
new_lamp = np.arange(60) >= 30
new_shots = new_shots[:, ::-1]
stream[new_lamp] = stream[new_lamp, ::-1]

# %%
# Fit the detector on 8 *shots* (training images). Then add 6 shots under the new lamp with
# ``partial_fit``. It adds them to the density and recomputes the threshold. The network does not
# change.

detector = COFTDetector("embedded", image_size=128, max_iter=5, random_state=0).fit(shots)
decisions = {"8 shots under the old lamp": detector.decision_function(stream)}
detector.partial_fit(new_shots)
decisions["and 6 under the new lamp"] = detector.decision_function(stream)
for name, decision in decisions.items():
    print(name)
    for lamp, photographs in (("old", ~new_lamp), ("new", new_lamp)):
        good, bad = (decision[photographs & (y == label)] < 0 for label in (1, -1))
        print(f"  {lamp} lamp: {good.sum()} of {len(good)} good plates flagged,", end=" ")
        print(f"{bad.sum()} of {len(bad)} with a defect")

# %%
# The control charts show the plates in order of arrival, each with the distance of its score from
# the threshold. Without shots under the new lamp, good plates under it score as low as defects do.
# More shots have a price: the more variation is normal, the more visible a defect has to be.

figure = plt.figure(figsize=(10, 6.5), layout="constrained")
image_figure, chart_figure = figure.subfigures(1, 2, width_ratios=[1, 4])
for ax, (name, image) in zip(
    image_figure.subplots(2, 1),
    {"old lamp": shots[0], "new lamp": new_shots[0]}.items(),
    strict=True,
):
    ax.imshow(image)
    ax.set(title=name, xticks=[], yticks=[])
axes = chart_figure.subplots(2, 1, sharex=True)
for ax, (name, decision) in zip(axes, decisions.items(), strict=True):
    for label, style, legend in ((1, "C0o", "good"), (-1, "C1X", "with a defect")):
        ax.plot(np.flatnonzero(y == label), decision[y == label], style, label=legend)
    ax.axhline(0, color="black", linestyle="--", linewidth=1.2, label="threshold")
    ax.axvspan(29.5, 60, color="gold", alpha=0.2, label="new lamp")
    ax.set(title=name, ylabel="score - threshold")
axes[1].set(xlabel="photograph", xlim=(-1, 60))
handles, labels = axes[0].get_legend_handles_labels()
chart_figure.legend(handles, labels, loc="outside upper center", ncols=4)
plt.show()
