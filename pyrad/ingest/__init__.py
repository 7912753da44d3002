"""archive -> plan -> store: every file ends as stored, skipped or quarantined, and the ledger says why.

archive   a folder or a zip -> relative paths and a safe opener of bytes
files     bytes of one file -> its kind, by content -> sources -> pixels: the one door to every format
dicom_*   a DICOM file: parse -> format -> header and groups (sources); frames -> codecs -> pixels
raster    a PNG, JPEG, TIFF, BMP, GIF or WebP file -> the same; npy: an array
narrow    pixels wider than 16 bits -> the 16-bit type that holds them exactly
color     three samples a pixel -> luma, or planes
policy    what an ingest was told -> which images it stores; limits
selectors  --select -> whether a file is chosen, by what its header says
cut       a decoded frame -> the part that --burned-in keeps
references  what key objects and segmentations say -> frames that are out, masks of images
vocabulary  text of a header -> a word of an allow-list, or nothing
reasons   why a file was skipped or quarantined: one table of codes
scan      relative paths -> headers, in a pool of processes
table     a label table -> what its rows say of each file
layouts   files and a table -> labels, patients and splits of every source
split     patients -> train, val or test
plan      sources -> duplicates settled, samples permuted, rows of buckets assigned
write     the slots of one shard -> decoded pixels -> the shard
preview   what an ingest would do: --dry-run
run       all of the above, then the commit
secret    the secret -> keys; the private folder that leads back from a key to a file

A layout is a function from files to a table of sources; archives differ by that, never by a class.
"""
