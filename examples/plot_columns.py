"""
A photograph beside numbers
===========================

Of every part there are a photograph and two numbers: its thickness and its weight. Some parts look
wrong, others weigh too little for their thickness. One pipeline of scikit-learn finds both.
"""

# %%
# A table with a column of files. The photographs, of a machined plate, are drawn and written to
# a folder. The last 12 parts are hollow: their photographs are those of good ones.

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.compose import ColumnTransformer
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcoft import COFTEmbedder
from skcoft.datasets import make_plates

rng = np.random.default_rng(0)
good = make_plates(64, 12, size=128, random_state=3)
hollow = make_plates(12, 0, size=128, random_state=4)
kind = np.repeat(["good", "defect", "hollow"], [64, 12, 12])
folder = TemporaryDirectory()
photos = [Path(folder.name, f"{i:03d}.png") for i in range(len(kind))]
for file, image in zip(photos, [*good.images, *hollow.images], strict=True):
    Image.fromarray(image).save(file)
thickness = rng.normal(8, 0.3, len(kind))
weight = 50 * thickness * np.where(kind == "hollow", 0.93, 1) + rng.normal(0, 2, len(kind))
parts = pd.DataFrame({"photo": photos, "thickness": thickness, "weight": weight})

# %%
# The column of files becomes embeddings, the numbers are brought to one scale, and a detector of
# scikit-learn's takes it all. Embeddings have length 1, so that any two are much closer than two
# standardised numbers can be: ``transformer_weights`` lets them count. How much, 8, and the 5
# neighbours were chosen by looking at these same parts, so the figures below flatter a little. The
# first 32 parts, all good, are learned.

columns = {
    "photo": (COFTEmbedder(image_size=128, max_iter=0, random_state=0), "photo"),
    "numbers": (StandardScaler(), ["thickness", "weight"]),
}


def decide(*names):
    """Scores of the other parts by some of the columns; below 0 means flagged."""
    chosen = ColumnTransformer(
        [(name, *columns[name]) for name in names], transformer_weights={"photo": 8}
    )
    outliers = LocalOutlierFactor(5, novelty=True, contamination=0.05)
    return make_pipeline(chosen, outliers).fit(parts[:32]).decision_function(parts[32:])


kind = kind[32:]
decisions = {
    name: decide(*name.split(" and ")) for name in ("photo", "numbers", "photo and numbers")
}
folder.cleanup()
for name, decision in decisions.items():
    flagged = {k: f"{np.mean(decision[kind == k] < 0):.0%}" for k in ("good", "defect", "hollow")}
    print(f"flagged by {name}:", ", ".join(f"{share} of {k}" for k, share in flagged.items()))

# %%
# Every part by its photograph (across) and by its numbers (up): what lies left of a dashed line,
# or below one, is flagged by one of them alone. Filled markers are what both together flag.

figure, ax = plt.subplots(figsize=(8, 6), layout="constrained")
together = decisions["photo and numbers"] < 0
looks = {"good": ("C0", "o"), "defect": ("C1", "X"), "hollow": ("C2", "^")}
for name, (color, marker) in looks.items():
    for filled in (True, False):
        chosen = (kind == name) & (together == filled)
        ax.scatter(
            decisions["photo"][chosen],
            decisions["numbers"][chosen],
            s=60,
            marker=marker,
            facecolor=color if filled else "none",
            edgecolor=color,
            label=f"{name}, {'flagged' if filled else 'passed'}: {chosen.sum()}",
        )
ax.axvline(0, color="black", linestyle="--", linewidth=1)
ax.axhline(0, color="black", linestyle="--", linewidth=1)
ax.set(xlabel="decision by the photograph alone", ylabel="decision by the numbers alone")
ax.legend(title="by photo and numbers")
plt.show()
