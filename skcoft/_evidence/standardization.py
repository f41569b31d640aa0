"""The level of a part or density: where the scores of held-out shots lie, and how far apart."""


def location_of(part):
    """Return the mean held-out score of a part."""
    return float(part.held_out_scores.mean())


def scale_of(part):
    """Return the standard deviation of held-out scores; 1 where they are all the same."""
    return float(part.held_out_scores.std()) or 1.0
