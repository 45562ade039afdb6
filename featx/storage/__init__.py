"""Files that are whole, durable and checksummed, or not there at all."""
