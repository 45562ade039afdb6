"""The embeddings of one key as immutable HDF5 shards in a folder that is the only truth."""
