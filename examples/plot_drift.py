"""
The light has changed
=====================

A detector has learned parts under one lamp. Then the lamp is hung on the other side, and every
part looks wrong. A few photographs under the new light mend that, without a new fit.
"""

# %%
# Photographs of a machined plate, which are drawn, come in one after the other, some with a
# defect. The plate is symmetric, so a photograph turned upside down is one with the lamp below:
# after the first 30 all are. (A mirror image would not do: views are mirrored left to right.)

import matplotlib.pyplot as plt
import numpy as np

from skcoft import COFTDetector
from skcoft.datasets import make_plates

plates = make_plates(8 + 6 + 50, 10, size=128, random_state=2)
order = np.random.default_rng(0).permutation(60)
shots, more, stream = np.split(plates.images, [8, 14])
stream, y = stream[order], plates.labels[14:][order]
later = np.arange(60) >= 30
stream[later] = stream[later, ::-1]

# %%
# ``partial_fit`` adds shots to the density and sets the threshold anew. The network stays as it
# is.

detector = COFTDetector("embedded", image_size=128, max_iter=5, random_state=0).fit(shots)
charts = {"8 shots under the old lamp": detector.decision_function(stream)}
detector.partial_fit(more[:, ::-1])
charts["and 6 under the new one"] = detector.decision_function(stream)
for name, decision in charts.items():
    print(name)
    for lamp, chosen in (("old", ~later), ("new", later)):
        good, bad = (decision[chosen & (y == label)] < 0 for label in (1, -1))
        print(f"  {lamp} lamp: {good.sum()} of {len(good)} good plates flagged,", end=" ")
        print(f"{bad.sum()} of {len(bad)} with a defect")

# %%
# A control chart: every plate in the order they came in, and how far its score is from the
# threshold. With shots of the old lamp alone, good plates under the new one are as far below it as
# defects are. More shots have a price: the more that is normal, the plainer a defect has to be.

figure = plt.figure(figsize=(10, 6.5), layout="constrained")
pictures, charted = figure.subfigures(1, 2, width_ratios=[1, 4])
for ax, (name, image) in zip(
    pictures.subplots(2, 1), {"old lamp": shots[0], "new lamp": more[0, ::-1]}.items(), strict=True
):
    ax.imshow(image)
    ax.set(title=name, xticks=[], yticks=[])
axes = charted.subplots(2, 1, sharex=True)
for ax, (name, decision) in zip(axes, charts.items(), strict=True):
    for label, look, text in ((1, "C0o", "good"), (-1, "C1X", "with a defect")):
        ax.plot(np.flatnonzero(y == label), decision[y == label], look, label=text)
    ax.axhline(0, color="black", linestyle="--", linewidth=1.2, label="threshold")
    ax.axvspan(29.5, 60, color="gold", alpha=0.2, label="new lamp")
    ax.set(title=name, ylabel="score less threshold")
axes[1].set(xlabel="photograph", xlim=(-1, 60))
handles, names = axes[0].get_legend_handles_labels()
charted.legend(handles, names, loc="outside upper center", ncols=4)
plt.show()
