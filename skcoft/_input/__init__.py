"""What X, y, groups and mask may be: recognised, decoded, cut into chunks."""
