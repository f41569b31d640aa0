"""
Find unusual regions of one photograph
======================================

There are no labels and no defects, just one large photograph. Which of its regions are unusual?
Cut the photograph into tiles, fit a detector on some of them and rank them all.
"""

# %%
# The photograph is the Hubble eXtreme Deep Field, 872 x 1000 pixels. It comes with scikit-image.
# Cut it into tiles. The *shots* (training images) are 32 random tiles, because most regions are
# ordinary.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from scipy.stats import spearmanr
from skimage.data import hubble_deep_field

from skcoft import COFTDetector

SIZE = 48
photo = hubble_deep_field()
corners = [
    (row, column)
    for row in range(0, photo.shape[0] - SIZE + 1, SIZE)
    for column in range(0, photo.shape[1] - SIZE + 1, SIZE)
]
tiles = np.stack([photo[r : r + SIZE, c : c + SIZE] for r, c in corners])
shots = np.random.default_rng(0).permutation(len(tiles))[:32]
detector = COFTDetector("embedded", image_size=64, max_iter=5, random_state=0).fit(tiles[shots])
scores = detector.score_samples(tiles)
print(f"{len(tiles)} tiles, {np.mean(scores < detector.offset_):.0%} below the threshold")

# %%
# Does the detector merely rank tiles by brightness? If so, the rank correlation would be 1.

for name, brightness in (
    ("mean brightness", tiles.mean((1, 2, 3))),
    ("brightest pixel", tiles.max((1, 2, 3))),
):
    print(f"rank correlation with {name}: {spearmanr(-scores, brightness)[0]:.2f}")

# %%
# Mark the 10 most unusual tiles in the photograph. Below, compare them with the 10 most ordinary
# tiles.

ranked = np.argsort(scores)
figure = plt.figure(figsize=(9, 10.5), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=[3.2, 1])
ax = top.subplots()
ax.imshow(photo)
ax.set_axis_off()
for rank, i in enumerate(ranked[:10], 1):
    row, column = corners[i]
    ax.add_patch(Rectangle((column, row), SIZE, SIZE, fill=False, color="white", linewidth=1.5))
    ax.text(column + 3, row + 3, rank, color="white", va="top", fontsize=9)
tile_axes = bottom.subplots(2, 10)
for axes_row, indices, name in zip(
    tile_axes, (ranked[:10], ranked[:-11:-1]), ("unusual", "ordinary"), strict=True
):
    axes_row[0].set_ylabel(name)
    for ax, i in zip(axes_row, indices, strict=True):
        ax.imshow(tiles[i])
        ax.set(xticks=[], yticks=[])
plt.show()
