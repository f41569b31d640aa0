"""Components of the anomaly score, their sum, anomaly maps and the threshold."""
