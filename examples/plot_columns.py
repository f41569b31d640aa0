"""
Photographs and numbers in one table
====================================

Each part has a photograph and two numbers, its thickness and its weight. Some parts look wrong.
Others weigh too little for their thickness. One scikit-learn pipeline finds both.
"""

# %%
# Make a table with a column of image files. The photographs are synthetic images of a machined
# plate, saved to a folder. The last 12 parts are hollow, but their photographs look good.

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
plates = make_plates(64, 12, size=128, random_state=3)
hollow_plates = make_plates(12, 0, size=128, random_state=4)
condition = np.repeat(["good", "defect", "hollow"], [64, 12, 12])
folder = TemporaryDirectory()
files = [Path(folder.name, f"{i:03d}.png") for i in range(len(condition))]
for file, image in zip(files, [*plates.images, *hollow_plates.images], strict=True):
    Image.fromarray(image).save(file)
thickness = rng.normal(8, 0.3, len(condition))
weight = 50 * thickness * np.where(condition == "hollow", 0.93, 1)
weight += rng.normal(0, 2, len(condition))
table = pd.DataFrame({"photo": files, "thickness": thickness, "weight": weight})

# %%
# The embedder turns the column of files into embeddings. The scaler standardises the numbers. A
# scikit-learn detector receives all of these features. Embeddings have length 1, so two of them
# are much closer than two standardised numbers can be. ``transformer_weights`` compensates for
# this. The weight 8 and the 5 neighbours were chosen on these same parts, so the figures below are
# slightly optimistic. The pipeline is fitted on the first 32 parts, all good.

columns = {
    "photo": (COFTEmbedder(image_size=128, max_iter=0, random_state=0), "photo"),
    "numbers": (StandardScaler(), ["thickness", "weight"]),
}


def fit_and_score(*names):
    """Fit on the first 32 parts, score the others; a negative decision flags a part."""
    features = ColumnTransformer(
        [(name, *columns[name]) for name in names], transformer_weights={"photo": 8}
    )
    outliers = LocalOutlierFactor(5, novelty=True, contamination=0.05)
    return make_pipeline(features, outliers).fit(table[:32]).decision_function(table[32:])


condition = condition[32:]
decisions = {
    name: fit_and_score(*name.split(" and ")) for name in ("photo", "numbers", "photo and numbers")
}
folder.cleanup()
for name, decision in decisions.items():
    flagged = {
        kind: f"{np.mean(decision[condition == kind] < 0):.0%}"
        for kind in ("good", "defect", "hollow")
    }
    print(
        f"flagged by {name}:", ", ".join(f"{share} of {kind}" for kind, share in flagged.items())
    )

# %%
# The plot shows each part by its photograph (x) and by its numbers (y). The photograph alone flags
# the parts left of the vertical line. The numbers alone flag the parts below the horizontal line.
# Filled markers are the parts that photograph and numbers together flag.

figure, ax = plt.subplots(figsize=(8, 6), layout="constrained")
flagged_jointly = decisions["photo and numbers"] < 0
styles = {"good": ("C0", "o"), "defect": ("C1", "X"), "hollow": ("C2", "^")}
for kind, (color, marker) in styles.items():
    for flagged in (True, False):
        group = (condition == kind) & (flagged_jointly == flagged)
        ax.scatter(
            decisions["photo"][group],
            decisions["numbers"][group],
            s=60,
            marker=marker,
            facecolor=color if flagged else "none",
            edgecolor=color,
            label=f"{kind}, {'flagged' if flagged else 'passed'}: {group.sum()}",
        )
ax.axvline(0, color="black", linestyle="--", linewidth=1)
ax.axhline(0, color="black", linestyle="--", linewidth=1)
ax.set(xlabel="decision by the photograph alone", ylabel="decision by the numbers alone")
ax.legend(title="by photo and numbers")
plt.show()
