"""A data set -> batches, by every peer: a module each, with the same names.

    batches(corpus, folder, cores)   epochs without end: images float32 (n, 1, side, side), numbers (n,)
    SETTINGS                         what was chosen, for the record; the docstring names who advises it
    write(corpus, folder)            the data set, in an empty folder, where its form is in no one else's use

A batch holds until the next one is asked for. ``TOLERANCE`` stands where a peer cannot give the exact answer.
"""
