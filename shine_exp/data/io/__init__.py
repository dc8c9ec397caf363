"""Files, archives, downloads and the cache of decoded images."""
