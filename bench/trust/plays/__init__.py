"""Short videos shown and clicked (KuaiRand-Pure): which clicks are meant."""
