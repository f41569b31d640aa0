"""What a detector decides on many images: as columns, as a table, as maps, as a page to show."""

from ._report import write_report
from ._tables import score_images, write_maps, write_regions, write_scores

__all__ = ["score_images", "write_maps", "write_regions", "write_report", "write_scores"]
