"""archive -> store -> batch: decoded images and their table become one chunked Zarr v3 store, and back.

    layout       names, shapes, limits and Zarr documents: (rows, columns, dtype) -> bucket -> array document
    manifest     what a commit promises <-> the root ``zarr.json``, which is not trusted when it is read
    tables       samples and ledger <-> Parquet
    chunk        one 2-D plane <-> the bytes of one chunk
    codec        the same for zarr-python and numcodecs, which find it by entry points
    durable      bytes -> files that survive a power cut; the writer's lock
    shard        images -> one shard file (runs in worker processes)
    part         finished shards and tables -> the files of one part
    writer       a part -> a commit, by one rename
    descriptors  paths in a store -> open files, symlinks refused
    index        where every chunk lies
    samples      the tables of all parts as one, read column by column
    reader       a sample's number -> byte ranges -> its stored values
    verify       a store -> proof that it holds what it promises, or what is damaged and where
    info         a store -> what is in it, in numbers

Reading and writing never go through zarr-python; it, tensorstore and zarrs are oracles for the tests.
docs/format.md specifies the format.
"""
