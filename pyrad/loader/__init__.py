"""store -> batch: which samples, in what order, seen through which window and box."""
