"""The embeddings of one key as immutable HDF5 shards in a folder or an object store."""
