"""What people would pick instead of the bridge, each doing as much of its job as it can without being rebuilt.

Each is a `Subject`: events in at a port, messages out to the sink. `installed` puts them into a folder outside the
repository when they are first asked for.
"""
