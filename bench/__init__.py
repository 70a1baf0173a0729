"""Measurements that the repository can repeat: figures, the data they are taken on, the peers beside them."""
