"""Pages for people: the status page and reports, made on the server, with no script from elsewhere."""
