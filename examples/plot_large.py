"""
Detect small defects in large photographs
=========================================

By default, photographs are downscaled to about 370 x 370 pixels. This is fast and enough for most
defects. But a defect of 10 pixels in a photograph of 900 x 900 is then too small. Raise
``max_pixels`` to keep more pixels. Run time grows with it. You need not cut the photographs into
tiles.
"""

import matplotlib.pyplot as plt
import numpy as np

from skcoft import COFTDetector
from skcoft.datasets import make_plates

images = make_plates(8, 0, size=900, random_state=2).images
training_images, good = images[:6], images[6]

# %%
# Put a drop of oil, 10 pixels wide, on a plate that is not among the training images:

top, left, width = 430, 300, 10
rows, columns = np.ogrid[:900, :900]
drop = (rows - top) ** 2 + (columns - left) ** 2 <= (width / 2) ** 2
spotted = np.where(drop[..., None], images[7] // 3, images[7]).astype(np.uint8)

# %%
# Compare the default with all pixels. The network is frozen here, to save time.

settings = {"default": None, "all pixels": 900 * 900}
anomaly_maps = {}
for name, max_pixels in settings.items():
    detector = COFTDetector(max_pixels=max_pixels, max_iter=0, random_state=0).fit(training_images)
    maps = anomaly_maps[name] = detector.anomaly_map([good, spotted])
    at_drop = maps[1][top - 20 : top + 20, left - 20 : left + 20].max()
    print(f"{name}: {at_drop:.1f} at the drop, maximum {maps[0].max():.1f} on the good plate")

# %%
# The anomaly map is standardised: 0 is the usual value, and 1 is one standard deviation more
# anomalous. At full resolution the drop stands out. In the downscaled image it is lost.

crop = slice(top - 110, top + 110), slice(left - 110, left + 110)
figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
axes[0].imshow(spotted)
axes[0].add_patch(plt.Rectangle((left - 110, top - 110), 220, 220, fill=False, color="tab:orange"))
axes[0].set_title("a test plate")
axes[1].imshow(spotted[crop])
axes[1].set_title("a drop of oil on it")
for ax, (name, maps) in zip(axes[2:], anomaly_maps.items(), strict=True):
    map_image = ax.imshow(maps[1][crop], vmin=-8, vmax=8)
    ax.set_title(name)
figure.colorbar(map_image, ax=axes[2:], shrink=0.9, label="anomaly, in standard deviations")
for ax in axes:
    ax.set_axis_off()
plt.show()
