"""Images -> those that are one picture, whatever their size, compression, window, flip or turn."""
