"""archive -> plan -> store: every file ends as stored, skipped or quarantined, and the ledger says why.

archive   a folder or a zip -> relative paths and a safe opener of bytes
dicom     a DICOM file -> headers -> stored values of a frame
raster    a PNG, JPEG, TIFF or NPY file -> the same
reasons   why a file was skipped or quarantined: one table of codes
scan      relative paths -> headers, in a pool of processes
table     a label table -> what its rows say of each file
layouts   files and a table -> labels, patients and splits of every source
split     patients -> train, val or test
plan      sources -> duplicates settled, samples permuted, rows of buckets assigned
write     the slots of one shard -> decoded pixels -> the shard
run       all of the above, then the commit
secret    the secret -> keys; the private folder that leads back from a key to a file

A layout is a function from files to a table of sources; archives differ by that, never by a class.
"""
