"""The program that measures over there, in parts; ``..assemble`` makes one file of them.

Each part runs under Python 3.8 with the standard library and numpy, and imports nothing of this
package but other parts, by ``from .part import name`` on a line of its own: in the one file these
lines are left out, so no two parts may use a name for different things.
"""
