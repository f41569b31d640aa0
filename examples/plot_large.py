"""
Small defects in large photographs
==================================

Photographs are reduced to about 370 x 370 pixels before the network sees them, which is quick and
enough for most defects. A speck of 10 pixels in a photograph of 900 x 900 is too small then.
``max_pixels`` lets the network see more of them, in a time that grows with it. There is no need to
cut the photographs into tiles.
"""

import matplotlib.pyplot as plt
import numpy as np

from skcoft import COFTDetector
from skcoft.datasets import make_plates

images = make_plates(8, 0, size=900, random_state=2).images
shots, sound = images[:6], images[6]

# %%
# A drop of oil, 10 pixels wide, on a plate that nobody has seen:

top, left, width = 430, 300, 10
rows, columns = np.ogrid[:900, :900]
inside = (rows - top) ** 2 + (columns - left) ** 2 <= (width / 2) ** 2
spotted = np.where(inside[..., None], images[7] // 3, images[7]).astype(np.uint8)

# %%
# The network stays as it is here, to save time.

settings = {"as it comes": None, "every pixel": 900 * 900}
found = {}
for name, max_pixels in settings.items():
    detector = COFTDetector(max_pixels=max_pixels, max_iter=0, random_state=0).fit(shots)
    maps = found[name] = detector.anomaly_map([sound, spotted])
    at = maps[1][top - 20 : top + 20, left - 20 : left + 20].max()
    print(f"{name}: {at:.1f} at the drop, {maps[0].max():.1f} at most on the sound plate")

# %%
# The map is on the scale of the shots: 0 is usual, 1 a standard deviation below. Seen as it is,
# the drop stands out; reduced, it is lost.

near = slice(top - 110, top + 110), slice(left - 110, left + 110)
figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
axes[0].imshow(spotted)
axes[0].add_patch(plt.Rectangle((left - 110, top - 110), 220, 220, fill=False, color="tab:orange"))
axes[0].set_title("a plate that nobody has seen")
axes[1].imshow(spotted[near])
axes[1].set_title("a drop of oil on it")
for ax, (name, maps) in zip(axes[2:], found.items(), strict=True):
    drawn = ax.imshow(maps[1][near], vmin=-8, vmax=8)
    ax.set_title(name)
figure.colorbar(drawn, ax=axes[2:], shrink=0.9, label="deviations below the shots")
for ax in axes:
    ax.set_axis_off()
plt.show()
