"""The local AWS: ministack, started through an overlay that restores documented AWS behaviour.

Each module names the behaviour it restores and the private names of the emulator it replaces. The
overlay fits exactly one release of the emulator and refuses to start on any other.
"""
