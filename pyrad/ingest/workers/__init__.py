"""Tasks -> their results, by processes of this machine or of a Ray cluster that one bad file cannot end."""
