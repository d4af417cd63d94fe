"""The Mininet world: device models over real kernel sockets, under a virtual or the real clock."""
