"""Making shards: where images come from, how they are encoded, how the tar files are written."""
