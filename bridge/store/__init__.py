"""Redis: which keys there are, the scripts that change them in one step, and the server that may come with us.

Knows calls and effects as values; decides nothing about them.
"""
