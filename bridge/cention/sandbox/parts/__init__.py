"""What Cention's endpoints do, one module for each part of the API: a request that was checked in, the answer out.

Each part says what it serves as a list of `Served`; `bridge.cention.sandbox.endpoints` routes them.
"""
