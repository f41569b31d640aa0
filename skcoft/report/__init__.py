"""Results of a detector on many images: as columns, CSV files, map images and HTML reports."""

from ._report import write_report
from ._tables import score_images, write_maps, write_regions, write_scores

__all__ = ["score_images", "write_maps", "write_regions", "write_report", "write_scores"]
