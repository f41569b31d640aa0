"""
The oddest places of a photograph
=================================

There are no labels and no defects, but one large photograph, and the question what is unusual in
it. Its pieces answer: a detector learns some of them, and ranks the others.
"""

# %%
# The Hubble eXtreme Deep Field, a photograph of 872 x 1000 pixels that comes with scikit-image, is
# cut into tiles. 32 of them, drawn at random, are the shots: most places are ordinary.

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
# Is this more than a list of the bright tiles? The rank correlation with one would then be 1.

for name, value in (
    ("mean brightness", tiles.mean((1, 2, 3))),
    ("brightest pixel", tiles.max((1, 2, 3))),
):
    print(f"rank correlation with {name}: {spearmanr(-scores, value)[0]:.2f}")

# %%
# The photograph with the 10 oddest tiles, and these beside the 10 most ordinary ones.

ranked = np.argsort(scores)
figure = plt.figure(figsize=(9, 10.5), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[3.2, 1])
ax = above.subplots()
ax.imshow(photo)
ax.set_axis_off()
for place, i in enumerate(ranked[:10], 1):
    row, column = corners[i]
    ax.add_patch(Rectangle((column, row), SIZE, SIZE, fill=False, color="white", linewidth=1.5))
    ax.text(column + 3, row + 3, place, color="white", va="top", fontsize=9)
axes = below.subplots(2, 10)
for row, chosen, name in zip(
    axes, (ranked[:10], ranked[:-11:-1]), ("odd", "ordinary"), strict=True
):
    row[0].set_ylabel(name)
    for cell, i in zip(row, chosen, strict=True):
        cell.imshow(tiles[i])
        cell.set(xticks=[], yticks=[])
plt.show()
