"""The joint score: parts brought to one scale by held-out shots, and added."""


class JointScore:
    """The sum of the parts' scores, on the scale of the first part.

    Of each other part, the mean of its held-out scores is taken away and the rest is multiplied
    so that the held-out scores of both parts vary alike, times the part's own weight. So no part
    outweighs another by its scale, and none by the number of its numbers.
    """

    def __init__(self, parts):
        self.parts = parts

    def fit(self, support):
        """Fit the parts on the embeddings of all shots and standardise them."""
        for part in self.parts.values():
            part.fit(support)
        first, *others = self.parts
        scale = self.parts[first].held_out.std()
        self.weights, self.locations = {first: 1.0}, {first: 0.0}
        for name in others:
            part = self.parts[name]
            self.weights[name] = (float(scale / scale_of(part)) or 1.0) * part.weight
            self.locations[name] = location_of(part)
        return self

    def held_out(self):
        """Joint scores of the support's calibrating rows, their shot left out."""
        return self._add({name: part.held_out for name, part in self.parts.items()})

    def in_sample(self, support):
        """Joint scores of the shots and their mirror images themselves."""
        return self._add({name: part.in_sample(support) for name, part in self.parts.items()})

    def score(self, kept):
        """Score images by what the parts kept of both sides of them.

        ``kept`` has for each part an array of shape (1 or 2, n, ...): of the images and, where
        they count, their mirror images. Returns the mean over both, (n,).
        """
        sides, n = next(iter(kept.values())).shape[:2]
        scores = {
            name: part.score(kept[name].reshape(sides * n, *kept[name].shape[2:]))
            for name, part in self.parts.items()
        }
        return self._add(scores).reshape(sides, n).mean(axis=0)

    def _add(self, scores):
        return sum(
            self.weights[name] * (found - self.locations[name]) for name, found in scores.items()
        )

    def drawing(self):
        """Return the parts that draw maps."""
        return {name: part for name, part in self.parts.items() if hasattr(part, "log_maps")}

    def maps(self, log_maps):
        """Anomaly maps (n, h, w) from the parts' log densities of both sides of images.

        ``log_maps`` has for each part that draws an array (1 or 2, n, h, w). Of each part, 0 is
        the mean held-out score and 1 a standard deviation of these below; the mean over parts.
        """
        drawn = []
        for name, (seen, *mirrored) in log_maps.items():
            for other in mirrored:
                seen = (seen + other[:, :, ::-1]) / 2
            part = self.parts[name]
            drawn.append((location_of(part) - seen) / scale_of(part))
        return sum(drawn) / len(drawn)


def location_of(part):
    """Return the mean held-out score of a part."""
    return float(part.held_out.mean())


def scale_of(part):
    """Return the standard deviation of held-out scores; 1 where they are all the same."""
    return float(part.held_out.std()) or 1.0
