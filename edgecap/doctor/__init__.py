"""``edgecap doctor``: what is wrong with a machine and the installation on it.

Nothing here imports numpy, Pillow or an engine before another process has shown that they can be imported.
"""
